"""Jobs that go on for as long as a test wants, and no further."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.api import Gone, Refused
from tests.crash.books import Entry
from tests.crash.station import Station
from tests.machine import PATIENCE


class Paces:
    """The two FIFOs by which a paced job is held up and let go."""

    def __init__(self, place: Path) -> None:
        paths = [place / f"journal.{suffix}" for suffix in ("go", "done")]
        for path in paths:
            os.mkfifo(path)
        # Read and write: opened so, neither end waits for the other.
        self._paths = paths
        self._go, self._done = (os.open(path, os.O_RDWR) for path in paths)

    def go(self, portions: int = 1) -> None:
        os.write(self._go, b"g" * portions)

    def wait_done(self, portions: int = 1) -> None:
        """Until the job has written so many more."""
        for _ in range(portions):
            assert select.select([self._done], [], [], PATIENCE)[0], "the job is blocked"
            os.read(self._done, 1)

    def close(self) -> None:
        os.close(self._go)
        os.close(self._done)
        for path in self._paths:
            path.unlink()


@contextmanager
def paces_of(station: Station) -> Iterator[Paces]:
    paces = Paces(station.place)
    yield paces
    paces.close()


def start_holding(station: Station, name: str = "held", **options: object) -> Entry:
    """A job that runs, and goes on until it is stopped."""
    entry = Entry(name, out=2, code=5, holds=True, paces=1, options=dict(options))
    with paces_of(station) as paces:
        station.submit(entry)
        paces.go()
        paces.wait_done()
    return entry


def stop(station: Station, entry: Entry) -> None:
    """Until it is known to be stopped, whoever dies in between."""
    assert entry.id
    try:
        station.api.stop(entry.id)
    except Gone:
        station.wait_death()
        station.start()
        stop(station, entry)
    except Refused as error:
        assert error.code == "wrong-state", error
