"""`jobsup run` through the daemon: either of the two dies, and the job does what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.crash.books import Entry, blocks
from tests.crash.paces import Paces, paces_of
from tests.crash.station import Station
from tests.machine import PATIENCE, REPO, inits


class Foreground:
    """A `jobsup run` of a bookkeeper."""

    def __init__(self, station: Station, entry: Entry) -> None:
        asked = entry.request(station.place)
        socket = station.state / "run" / "jobsup.sock"
        command = ["run", "--socket", str(socket), "--name", entry.name, "--rw", str(station.place)]
        self.entry = entry
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "jobsup", *command, "--cwd", "/", "--", *asked["argv"]],
            cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def kill(self) -> None:
        """Without reading on: whoever still has the other ends of its pipes is not waited for."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def end(self) -> tuple[int, bytes, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err.decode()


@contextmanager
def foreground(station: Station, **numbers: Any) -> Iterator[tuple[Foreground, Paces]]:  # noqa: ANN401 - of Entry
    """One that has written, and waits for another word."""
    with paces_of(station) as paces:
        run = Foreground(station, Entry("fore", out=4, paces=2, **numbers))
        try:
            paces.go()
            paces.wait_done()
            yield run, paces
        except AssertionError:
            if run.process.poll() is not None:
                print(run.end())  # why it is gone
            raise
        finally:
            if run.process.poll() is None:
                run.kill()


def _only_status(station: Station) -> Any:  # noqa: ANN401 - JSON
    (line,) = station.api.all()
    return station.api.wait(line["id"])


def _require_nothing_left(station: Station, known: str) -> None:
    station.end()
    assert station.remains({known}) == []


@pytest.mark.parametrize("daemon", ["lives", "is dead"])
def test_a_client_that_is_killed_takes_its_job_with_it(station: Station, daemon: str) -> None:
    station.start()
    with foreground(station) as (run, _):
        ends = [os.pidfd_open(init) for init in inits()]
        if daemon == "is dead":
            station.kill()
        run.kill()
        station.wait_ended(ends)
    if daemon == "is dead":
        station.start()
    status = _only_status(station)
    assert (status["state"], status["verdict"]["cause"]) == ("stopped", "killed")
    assert status["verdict"]["signal"] == "SIGKILL"
    assert station.journal() == ["fore start"]
    _require_nothing_left(station, status["id"])


@pytest.mark.parametrize("back", ["before its end", "after its end"])
def test_a_daemon_that_is_killed_is_not_missed(station: Station, back: str) -> None:
    station.start()
    with foreground(station, code=7) as (run, paces):
        ends = [os.pidfd_open(init) for init in inits()]
        station.kill()
        if back == "before its end":
            station.start()
        paces.go()
        paces.wait_done()
        station.wait_ended(ends)
        if back == "after its end":
            station.start()
        code, out, _ = run.end()
    assert (code, out) == (7, b"".join(blocks(4, 0)))
    status = _only_status(station)
    assert (status["state"], status["verdict"]["exit_code"]) == ("failed", 7)
    assert station.journal() == ["fore start", "fore end"]
    _require_nothing_left(station, status["id"])


@pytest.mark.parametrize(
    "point", ["row-durable", "listening", "leaf-limited", "cloned", "launched", "acknowledged"]
)
def test_a_daemon_that_dies_in_the_launch_leaves_no_job_behind(
    station: Station, point: str
) -> None:
    """Its client was not told of a job, so there must be none soon."""
    station.start(point)
    run = Foreground(station, Entry("fore", holds=True))
    station.wait_death()
    code, _, told = run.end()
    assert code == 125, told
    station.start()
    status = _only_status(station)
    assert status["state"] in ("stopped", "lost", "failed")
    assert status["verdict"]["exit_code"] is None
    assert station.journal() in ([], ["fore start"])
    _require_nothing_left(station, status["id"])


def test_a_client_that_is_interrupted_without_a_daemon_ends_its_job(station: Station) -> None:
    station.start()
    with foreground(station) as (run, _):
        ends = [os.pidfd_open(init) for init in inits()]
        station.kill()
        run.process.send_signal(signal.SIGTERM)
        station.wait_ended(ends)
        station.start()
        code, _, _ = run.end()
    assert code != 0
    status = _only_status(station)
    assert status["state"] == "stopped"
    _require_nothing_left(station, status["id"])
