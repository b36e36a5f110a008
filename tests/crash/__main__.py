"""The long form of the storm: python -m tests.crash [--kills N] [--seed N] [--seconds S]

Needs a host that can run jobs, or a guest: sudo ./run torture takes care of that.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.station import Station, Zygote
from tests.crash.storm import MAX_RUNNING, Storm


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture", description="Kill daemons at random moments.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--seconds", type=float, help="end after so long in any case")
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="jobsup-torture-") as directory,
        Station(Path(directory), Zygote(), max_running=MAX_RUNNING) as station,
    ):
        storm = Storm(station, asked.seed, clients=asked.clients)
        account = storm.run(asked.kills, asked.seconds)
    for complaint in account.complaints:
        print(complaint)
    print(
        f"{storm.kills} kills and {storm.ends} ends in {time.monotonic() - began:.0f} s: {account}"
    )
    return 1 if account.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
