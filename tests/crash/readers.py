"""Followers of a job's output whose daemon dies under them, again and again.

The job writes in portions, each when it is told to. In every round one portion is written and the
daemon killed, in turns while the followers read it and before it is written: a job whose daemon is
dead must not notice. The followers ask the next daemon for what comes after the bytes they have.
"""

from __future__ import annotations

import hashlib
import threading

from tests.crash.api import Gone
from tests.crash.books import BLOCK, Account, Entry
from tests.crash.paces import paces_of
from tests.crash.station import Station
from tests.machine import PATIENCE


class _Follower(threading.Thread):
    """Reads all of one job's stdout."""

    def __init__(self, readers: Readers, job: str) -> None:
        super().__init__()
        self.offset = 0
        self.returns = 0
        self.digest = hashlib.sha256()
        self.failure: BaseException | None = None
        self._readers = readers
        self._job = job

    def run(self) -> None:
        try:
            while not self._read():
                self.returns += 1
                # Each death costs one, and at most some more until the next daemon listens.
                assert self.returns < 10 * self._readers.kills, "a daemon that lives drops it"
                self._readers.up.wait()
        except BaseException as error:  # noqa: BLE001 - told by whoever joins
            self.failure = error

    def _read(self) -> bool:
        """Whether it came to the end."""
        api = self._readers.station.api
        try:
            for piece in api.pieces(self._job, stream="stdout", offset=self.offset, follow=True):
                self.digest.update(piece)
                with self._readers.progress:
                    self.offset += len(piece)
                    self._readers.progress.notify_all()
        except Gone:
            return False
        return True


class Readers:
    """One job of `size` bytes, its followers, and the daemons that are killed meanwhile."""

    def __init__(
        self, station: Station, size: int, *, kills: int = 20, followers: int = 10
    ) -> None:
        self.station = station
        self.up = threading.Event()
        self.progress = threading.Condition()
        self.kills = kills
        self._entry = Entry("writer", out=size // BLOCK, seed=11, code=3, paces=kills + 1)
        self._entry.options["output_max"] = size
        self._count = followers
        self._followers: list[_Follower] = []

    @property
    def returns(self) -> int:
        """How often followers had to come back."""
        return sum(follower.returns for follower in self._followers)

    def run(self) -> Account:
        """To the end of all; what does not add up."""
        self.station.start()
        self.up.set()
        with paces_of(self.station) as paces:
            self.station.submit(self._entry)
            assert self._entry.id
            self._followers = [_Follower(self, self._entry.id) for _ in range(self._count)]
            for follower in self._followers:
                follower.start()
            for round_ in range(self.kills):
                dead_first = round_ % 2 == 1
                if dead_first:
                    self._kill()
                paces.go()
                if not dead_first:
                    self._wait_half(round_)
                    self._kill()
                paces.wait_done()
                self.station.start()
                self.up.set()
            paces.go()
            paces.wait_done()
        return self._settled()

    def _kill(self) -> None:
        self.up.clear()
        self.station.kill()

    def _wait_half(self, round_: int) -> None:
        """Until the followers have half of this round's portion, on the average."""
        portion = self._entry.size("stdout") / (self.kills + 1)
        wanted = portion * (round_ + 0.5) * self._count

        def there() -> bool:
            return sum(follower.offset for follower in self._followers) >= wanted

        with self.progress:
            assert self.progress.wait_for(there, PATIENCE), "the followers get nothing"

    def _settled(self) -> Account:
        for follower in self._followers:
            follower.join(PATIENCE)
            assert not follower.is_alive(), "a follower does not end"
            assert follower.failure is None, repr(follower.failure)
        account = self.station.balance([self._entry])
        size, digest = self._entry.size("stdout"), self._entry.digest("stdout")
        for number, follower in enumerate(self._followers):
            if follower.digest.hexdigest() != digest:
                account.bytes += abs(size - follower.offset) or size
                account.torn.append(f"follower {number} has {follower.offset} bytes, not {size}")
        return account
