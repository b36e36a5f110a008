"""Daemons that are killed at random moments, one after the other, under clients that never stop.

The clients submit jobs of every kind at once, wait for some, stop some, and take note of what was
promised to them. Every daemon gets a SIGKILL: after a random time, while it recovers or later, or
at a random point of the code. The next one is started at once. In the end the books are balanced.
All of it follows from a seed, up to what the scheduler adds.
"""

from __future__ import annotations

import os
import random
import select
import sys
import threading
import time
from contextlib import suppress

from tests.crash.api import Gone, Refused
from tests.crash.books import Account, Entry
from tests.crash.points import POINTS
from tests.crash.station import Killed, Station
from tests.daemons import Died
from tests.machine import PATIENCE

MAX_RUNNING = 6
_QUEUED = 20  # more than that, and clients wait


class Storm:
    """One storm over one station, whose daemons have max_running=MAX_RUNNING."""

    def __init__(self, station: Station, seed: int, *, clients: int = 4) -> None:
        self.station = station
        self.entries: list[Entry] = []
        self.kills = 0
        self.ends = 0  # daemons that were asked to go, for a change
        self._seed = seed
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._up = threading.Event()
        self._clients = [
            threading.Thread(target=self._client, args=(number,)) for number in range(clients)
        ]
        self._failures: list[BaseException] = []

    def run(self, kills: int, seconds: float | None = None) -> Account:
        """Kill so many daemons, or go on for so long; then see what there is."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for client in self._clients:
            client.start()
        try:
            while self.kills < kills and (deadline is None or time.monotonic() < deadline):
                self._one_daemon()
                assert not self._failures, repr(self._failures)
        finally:
            self._over.set()
            self._up.set()
            for client in self._clients:
                client.join(PATIENCE)
        assert not self._failures, repr(self._failures)
        self.station.start()
        self._stop_the_rest()
        return self.station.balance(self.entries)

    # ---- daemons

    def _one_daemon(self) -> None:
        point = ""
        if self._random.random() < 0.3:
            point = f"{self._random.choice(sorted(POINTS))}:{self._random.randint(1, 6)}"
        in_recovery = self._random.random() < 0.2
        self.station.start(point, ready=False)
        if in_recovery:
            self._live(self._random.uniform(0, 0.3))
        else:
            with suppress(Died):
                self.station.wait_ready()
                self._up.set()
                self._live(self._random.expovariate(1 / 0.4))
        was_up = self._up.is_set()
        self._up.clear()
        if self.station.alive and was_up and self._random.random() < 0.1:
            try:
                self.station.end()
            except Killed:  # it came to its point first
                self.kills += 1
            else:
                self.ends += 1
            return
        if self.station.alive:
            self.station.kill()
        self.kills += 1
        if self.kills % 50 == 0:
            print(f"{self.kills} kills, {len(self.entries)} jobs", file=sys.stderr, flush=True)

    def _live(self, seconds: float) -> None:
        """Let the daemon live for so long, unless it dies by itself."""
        watched = os.pidfd_open(self.station.pid)
        select.select([watched], [], [], seconds)
        os.close(watched)

    # ---- clients

    def _client(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")
        count = 0
        unanswered: list[Entry] = []
        try:
            while not self._over.is_set():
                self._up.wait()
                with suppress(Gone):
                    self._release(unanswered)
                    self._wait_for_room()
                    count += 1
                    entry = _some_entry(dice, f"{number}-{count}")
                    unanswered.append(entry)
                    self._one_job(entry, dice, unanswered)
        except BaseException as error:
            self._failures.append(error)
            raise

    def _release(self, unanswered: list[Entry]) -> None:
        """Stop what holds a place and was taken on without an answer: nobody else would, and as
        many of these as there are places would be the end of all the others."""
        while unanswered:
            if unanswered[0].holds:
                for line in self.station.api.all(name=unanswered[0].name):
                    self._stop(line["id"])
            unanswered.pop(0)

    def _one_job(self, entry: Entry, dice: random.Random, unanswered: list[Entry]) -> None:
        self.entries.append(entry)
        self.station.submit(entry)
        unanswered.clear()
        assert entry.id
        if entry.holds:
            select.select([], [], [], dice.uniform(0, 0.2))
            self._stop(entry.id)
        elif entry.wait_ms and dice.random() < 0.5:
            self._pause(entry.id)
        elif dice.random() < 0.3:
            self.station.api.wait(entry.id)

    def _wait_for_room(self) -> None:
        """While the queue is long, for its head: jobs that pile up would test only the queue."""
        while len(queued := self.station.api.all("queued")) > _QUEUED and not self._over.is_set():
            self.station.api.call("GET", f"/jobs/{queued[-1]['id']}/wait", timeout=5)

    def _stop(self, job: str) -> None:
        self._ask(job, "stop")

    def _pause(self, job: str) -> None:
        self._ask(job, "pause")
        select.select([], [], [], 0.05)
        self._ask(job, "resume")

    def _ask(self, job: str, verb: str) -> None:
        """Until the answer is known: what is not acknowledged may not have been done."""
        while True:
            try:
                self.station.api.ask(job, verb)
            except Gone:
                if self._over.is_set():
                    return
                self._up.wait()
            except Refused as error:
                assert error.code == "wrong-state", error
                return
            else:
                return

    def _stop_the_rest(self) -> None:
        holding = {entry.name for entry in self.entries if entry.holds}
        for line in self.station.api.unfinished():
            verb = "stop" if line["name"] in holding else "resume"
            if verb == "stop" or line["state"] == "paused":
                with suppress(Refused):
                    self.station.api.ask(line["id"], verb)


def _some_entry(dice: random.Random, name: str) -> Entry:
    """A job of any kind."""
    kinds = {"quick": 30, "heavy": 15, "failing": 15, "holding": 15, "waiting": 15, "later": 10}
    (kind,) = dice.choices(list(kinds), list(kinds.values()))
    entry = Entry(
        name, out=dice.randrange(4), err=dice.randrange(3), seed=dice.randrange(1000),
        code=dice.choice((0, 0, 1, 7, 255)),
    )  # fmt: skip
    if dice.random() < 0.3:
        entry.options["mem"] = "64M"
    if kind == "heavy":
        entry.out, entry.err = dice.randrange(100, 800), dice.randrange(60)
    elif kind == "failing":
        entry.fails = dice.choice((1, 1, 2))
    elif kind == "holding":
        entry.holds = True
        entry.options["grace"] = 600  # the guest may be busy with others for long
    elif kind == "waiting":
        entry.wait_ms = dice.randrange(50, 600)
    elif kind == "later":
        entry.options["after"] = dice.choice((0.05, 0.3, 1))
    return entry
