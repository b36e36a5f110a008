"""`jobsup run` where a daemon answers: descriptors, the end, signals, and a daemon that goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_daemon import (
    JOB,
    Answer,
    FakeDaemon,
    ended,
    error,
    job_status,
    json_answer,
)

STATUS, WAIT = f"GET /jobs/{JOB}/status", f"GET /jobs/{JOB}/wait"
STARTED = json.dumps({"id": JOB, "state": "running"}).encode() + b"\n"
PATIENCE = 60


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "jobsup.sock") as fake:
        fake.answers[STATUS] = [json_answer(job_status())]
        fake.answers[WAIT] = [json_answer(ended())]
        yield fake


def runs(daemon: FakeDaemon, attached: Callable[[list[int]], None]) -> None:
    """What the daemon does with the descriptors of the next run."""
    daemon.answers["POST /jobs/run"] = [Answer(101, [STARTED], attached=attached)]


def close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def command(daemon: FakeDaemon, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-m", "jobsup", "run", "--socket", str(daemon.path), *arguments]


def run(
    daemon: FakeDaemon, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(daemon, *arguments), input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )


def test_the_job_has_our_streams(daemon: FakeDaemon) -> None:
    over = threading.Event()

    def cat(descriptors: list[int]) -> None:
        stdin, stdout, stderr, _ = descriptors
        while data := os.read(stdin, 65536):
            os.write(stdout, data)
        os.write(stderr, b"done\n")
        close(descriptors)
        over.set()

    ends = Answer(chunks=json_answer(ended()).chunks, before=lambda: over.wait(PATIENCE))
    daemon.answers[WAIT] = [ends]
    # In a thread: the answer must not wait for what we send only after it.
    runs(daemon, lambda found: threading.Thread(target=cat, args=(found,), daemon=True).start())
    data = os.urandom(1 << 20)
    done = run(daemon, "--mem", "1M", "--", "cat", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"done\n")
    assert done.stdout == data
    asked = daemon.asked("POST", "/jobs/run")[0]
    assert (asked.json["argv"], asked.json["mem"]) == (["cat"], 1 << 20)
    assert asked.headers["upgrade"] == "jobsup-run"


def test_no_stdin_is_an_empty_one(daemon: FakeDaemon) -> None:
    seen: list[bytes] = []

    def read(descriptors: list[int]) -> None:
        seen.append(os.read(descriptors[0], 10))
        close(descriptors)

    runs(daemon, read)
    assert run(daemon, "-n", "cat", stdin=b"left alone").returncode == 0
    assert seen == [b""]


def test_the_end_is_the_jobs(daemon: FakeDaemon, tmp_path: Path) -> None:
    runs(daemon, close)
    told = ended("memory", 137, message="memory limit 1M reached", hint="--mem 2M")
    daemon.answers[WAIT] = [json_answer(told)]
    done = run(daemon, "--verdict", str(tmp_path / "verdict"), "true")
    assert done.returncode == 137
    assert done.stderr == b"jobsup: memory limit 1M reached; try --mem 2M\n"
    assert json.loads((tmp_path / "verdict").read_text())["cause"] == "memory"


@pytest.mark.parametrize("late", [False, True])
def test_what_is_refused_is_told(daemon: FakeDaemon, late: bool) -> None:
    """Before the descriptors are asked for, or when the launch failed."""
    refused = error("bad-value", "x", 400, field="mem", value="1", why="is too small")
    if late:
        refused = Answer(101, [*refused.chunks, b"\n"], attached=close)
    daemon.answers["POST /jobs/run"] = [refused]
    done = run(daemon, "true")
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr == b"jobsup: --mem: '1' is too small\n"


def test_a_daemon_that_goes_before_it_answers_leaves_it_open(daemon: FakeDaemon) -> None:
    daemon.answers["POST /jobs/run"] = [Answer(101, [], attached=close)]
    done = run(daemon, "true")
    assert done.returncode == 125
    assert b"before it said whether the job was started" in done.stderr


class Held:
    """A run whose job goes on until it is released; `lifeline` is at its end when we are gone."""

    def __init__(self, daemon: FakeDaemon, *arguments: str) -> None:
        self._handed = threading.Event()
        self.release = threading.Event()
        self.lifeline = -1
        runs(daemon, self._attached)
        waits = Answer(chunks=json_answer(ended()).chunks, before=self._hold)
        daemon.answers[WAIT] = [waits]
        self.process = subprocess.Popen(
            command(daemon, *arguments, "sleep", "60"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._handed.wait(PATIENCE)

    def _attached(self, descriptors: list[int]) -> None:
        self.lifeline = descriptors.pop()
        close(descriptors)

    def _hold(self) -> None:
        self._handed.set()
        self.release.wait(PATIENCE)

    def end(self) -> tuple[int, bytes]:
        self.release.set()
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err

    def close(self) -> None:
        self.release.set()
        os.close(self.lifeline)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def held(daemon: FakeDaemon) -> Iterator[Held]:
    held = Held(daemon)
    yield held
    held.close()


class Seen:
    """Lets a test wait until the daemon has been asked."""

    def __init__(self, daemon: FakeDaemon, key: str) -> None:
        self._asked = threading.Semaphore(0)
        daemon.answers[key] = [Answer(204, before=self._asked.release)]

    def wait(self) -> None:
        assert self._asked.acquire(timeout=PATIENCE)


def test_signals_go_to_the_job_and_a_second_interrupt_kills(daemon: FakeDaemon, held: Held) -> None:
    signals = Seen(daemon, f"PUT /jobs/{JOB}/signal")
    kills = Seen(daemon, f"PUT /jobs/{JOB}/kill")
    for number in (signal.SIGHUP, signal.SIGINT):
        held.process.send_signal(number)
        signals.wait()
    held.process.send_signal(signal.SIGINT)
    kills.wait()
    asked = daemon.asked("PUT", f"/jobs/{JOB}/signal")
    assert [each.json["signal"] for each in asked] == [1, 2]
    assert held.end() == (0, b"")


def test_a_job_that_is_queued_leaves_the_queue(daemon: FakeDaemon, held: Held) -> None:
    stops = Seen(daemon, f"PUT /jobs/{JOB}/stop")
    daemon.answers[f"PUT /jobs/{JOB}/signal"] = [error("wrong-state", "it is queued", 409)]
    held.process.send_signal(signal.SIGTERM)
    stops.wait()
    assert held.end()[0] == 0


def test_the_lifeline_breaks_with_us(held: Held) -> None:
    held.process.kill()
    held.process.wait(PATIENCE)
    assert os.read(held.lifeline, 1) == b""


def test_a_daemon_that_is_restarted_is_waited_for(daemon: FakeDaemon, held: Held) -> None:
    daemon.close()
    daemon.path.unlink()
    with FakeDaemon(daemon.path) as another:
        another.answers[STATUS] = [json_answer(job_status())]
        another.answers[WAIT] = [json_answer(ended("exited", 3))]
        assert held.end() == (3, b"")


def test_without_a_daemon_the_job_is_ended_all_the_same(daemon: FakeDaemon, held: Held) -> None:
    daemon.close()
    held.process.send_signal(signal.SIGTERM)
    assert os.read(held.lifeline, 1) == b""
    status, err = held.end()
    assert status == 125
    assert b"no daemon answers" in err


@pytest.mark.parametrize("ended", [False, True])
def test_whoever_waits_for_a_daemon_is_told_so(daemon: FakeDaemon, held: Held, ended: bool) -> None:
    if ended:  # the init's end of the lifeline is closed
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, held.lifeline)
        os.close(nothing)
    daemon.close()
    assert held.process.stderr is not None
    told = held.process.stderr.readline()
    assert told.startswith(b"jobsup: no daemon answers")
    assert told.endswith(b"the job has ended\n" if ended else b"the job goes on\n")


def test_embedded_asks_no_daemon(daemon: FakeDaemon) -> None:
    done = run(daemon, "--embedded", "--mem", "lots", "true")
    assert done.returncode == 125
    assert daemon.requests == []
    assert daemon.connections == 0
