"""The two halves of a host that goes down: python -m tests.crash.reboot before|after DIRECTORY

`before` has jobs of every kind, tells their ids in one line of JSON, and waits for the power to be
cut. `after` starts a daemon over what is left, and says what it makes of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sys
from pathlib import Path

from tests.crash.books import Entry
from tests.crash.paces import paces_of, start_holding, stop
from tests.crash.station import Station, Zygote
from tests.machine import PATIENCE, inits, leaves


def _before(station: Station) -> None:
    station.start()
    past = station.submit(Entry("past", out=2, code=4))
    station.api.wait(past.id or "")
    entries = [
        past,
        start_holding(station, "lost"),
        start_holding(station, "again", restart="always"),
        station.submit(Entry("waiting", options={"after": 3600})),
        _ended_alone(station),
    ]
    print(json.dumps({entry.name: entry.id for entry in entries}), flush=True)
    signal.pause()


def _ended_alone(station: Station) -> Entry:
    """One that ends when there is no daemon any more: only its init's record tells how."""
    before = inits()
    with paces_of(station) as paces:
        entry = station.submit(Entry("told", out=3, code=6, paces=2))
        paces.go()
        paces.wait_done()
        (init,) = inits() - before
        end = os.pidfd_open(init)
        station.kill()
        paces.go()
        station.wait_ended([end])
    return entry


def _after(station: Station, ids: dict[str, str]) -> None:
    api = station.api
    for fifo in station.place.glob("journal.*"):  # that it was removed had not reached the disk
        fifo.unlink()
    with paces_of(station) as paces:
        station.start()
        ended = {name: api.wait(ids[name]) for name in ("past", "lost", "told")}
        paces.go()
        paces.wait_done()  # the second run of the one that is always run again
    runs = api.status(ids["again"])
    stop(station, dataclasses.replace(Entry("again"), id=ids["again"]))
    told = {
        **ended,
        "waiting": api.status(ids["waiting"]),
        "again, running": runs,
        "again": api.wait(ids["again"]),
        "output of told": b"".join(api.pieces(ids["told"], stream="stdout")).decode(),
        "journal": station.journal(),
        "leaves": sorted(leaves()),
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    what, directory = sys.argv[1], Path(sys.argv[2])
    zygote = Zygote()
    with Station(directory, zygote) as station:
        if what == "before":
            _before(station)
        else:
            assert select.select([sys.stdin], [], [], PATIENCE)[0]
            _after(station, json.loads(sys.stdin.readline()))
    zygote.close()


if __name__ == "__main__":
    main()
