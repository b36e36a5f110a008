"""The long form of the crash tests: python -m tests.crash [--kills N] [--output MIB] [--seed N]

First the storm, then a job of so much output that is followed while its daemons are killed. Needs a
host that can run jobs, and root: sudo ./run torture also takes a guest where the host cannot.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.books import Account
from tests.crash.readers import Readers
from tests.crash.station import Station, Zygote
from tests.crash.storm import MAX_RUNNING, Storm


def main() -> int:
    asked = _asked()
    zygote = Zygote()
    whole = [
        _part(zygote, lambda station: _storm(station, asked), max_running=MAX_RUNNING),
        not asked.output or _part(zygote, lambda station: _followed(station, asked.output << 20)),
    ]
    zygote.close()
    return 0 if all(whole) else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description="Kill daemons, and look for loss.")
    parser.add_argument("--kills", type=int, default=1000, help="how many, at random moments; 1000")
    parser.add_argument("--output", type=int, default=1024, help="MiB that are followed; 1024")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args()


def _part(zygote: Zygote, run: Callable[[Station], tuple[str, Account]], **options: object) -> bool:
    """Run one of them in a station of its own; whether all adds up."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="jobsup-torture-") as directory,
        Station(Path(directory), zygote, **options) as station,
    ):
        told, account = run(station)
    for complaint in account.complaints:
        print(complaint)
    print(f"{told} in {time.monotonic() - began:.0f} s: {account}", flush=True)
    return not account.complaints


def _storm(station: Station, asked: argparse.Namespace) -> tuple[str, Account]:
    print(f"seed {asked.seed}", flush=True)
    storm = Storm(station, asked.seed, clients=asked.clients)
    account = storm.run(asked.kills)
    return f"{storm.kills} kills and {storm.ends} ends", account


def _followed(station: Station, size: int) -> tuple[str, Account]:
    readers = Readers(station, size)
    account = readers.run()
    told = f"{size} bytes, {station.deaths} kills, {readers.returns} times a follower came back"
    return told, account


if __name__ == "__main__":
    sys.exit(main())
