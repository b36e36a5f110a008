"""A job's output through the API: to one reader, to many, to slow ones."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from jobsup.supervisor.daemon.api.spool import ENTRY, Entry
from jobsup.supervisor.daemon.state import State
from tests.unit.pretended import Answer, Daemon, Pretended, everything


def frames(body: bytes) -> list[tuple[Entry, bytes]]:
    found, at = [], 0
    while at < len(body):
        entry = Entry(*ENTRY.unpack_from(body, at))
        at += ENTRY.size
        found.append((entry, body[at : at + entry.length]))
        at += entry.length
    return found


def spoken(daemon: Daemon) -> Pretended:
    job = daemon.start(name="s")
    for stream, data in (("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"three\n")):
        job.write(stream, data)
    return job


def test_output_of_both_and_of_one(daemon: Daemon) -> None:
    spoken(daemon)
    both = daemon.get("/jobs/s/out")
    assert (both.body, both.headers["Jobsup-Offset"]) == (b"one\ntwo\nthree\n", "0")
    assert daemon.get("/jobs/s/out?stream=stdout").body == b"one\nthree\n"
    assert daemon.get("/jobs/s/out?stream=stderr&offset=1").body == b"wo\n"
    tail = daemon.get("/jobs/s/out?tail=2")
    assert (tail.body, tail.headers["Jobsup-Offset"]) == (b"two\nthree\n", "4")
    assert daemon.get("/jobs/s/out?since=1h").body == both.body
    assert daemon.get("/jobs/s/out?since=2100-01-01T00:00:00Z").body == b""


def test_frames_tell_of_what_and_when(daemon: Daemon) -> None:
    spoken(daemon)
    answer = daemon.get("/jobs/s/out?frames=1&offset=2")
    assert answer.headers["Content-Type"] == "application/vnd.jobsup.frames"
    told = frames(answer.body)
    assert [(entry.stream, entry.offset, data) for entry, data in told] == [
        (1, 2, b"e\n"),
        (2, 0, b"two\n"),
        (1, 4, b"three\n"),
    ]
    assert all(abs(entry.realtime_ns - time.time_ns()) < 60e9 for entry, _ in told)
    one = frames(daemon.get("/jobs/s/out?frames=1&stream=stdout").body)
    assert b"".join(data for _, data in one) == b"one\nthree\n"


def test_a_head_alone(daemon: Daemon) -> None:
    spoken(daemon)
    answer = daemon.call("HEAD", "/jobs/s/out?tail=1")
    assert (answer.status, answer.headers["Jobsup-Offset"], answer.body) == (200, "8", b"")
    assert daemon.call("HEAD", "/jobs/s").body == b""


def test_old_clients_get_no_chunks(daemon: Daemon) -> None:
    spoken(daemon)
    with daemon.raw(b"GET /jobs/s/out HTTP/1.0\r\n\r\n") as client:
        assert everything(client).endswith(b"\r\n\r\none\ntwo\nthree\n")


@pytest.mark.parametrize("query", ["", "&stream=stdout", "&frames=1"])
def test_a_follower_gets_every_byte_as_it_comes(daemon: Daemon, query: str) -> None:
    job = daemon.start(name="f")
    with daemon.following("/jobs/f/out?follow=1" + query) as response:
        head = ENTRY.size if "frames" in query else 0
        for number in range(20):
            data = b"%d\n" % number
            job.write("stdout", data)
            assert response.read(head + len(data))[head:] == data
        job.write("stdout", b"last")
        daemon.end(job)
        assert response.read()[head:] == b"last"
    assert daemon.get("/jobs/f/out?follow=1").body.startswith(b"0\n1\n")


def test_what_was_not_told_of_comes_at_the_end(daemon: Daemon) -> None:
    """As when the init was killed."""
    job = daemon.start(name="f")
    job.write("stdout", b"told ")
    job.write("stderr", b"untold", told=False)
    assert daemon.get("/jobs/f/out").body == b"told "
    with daemon.following("/jobs/f/out?follow=1") as response:
        assert response.read(5) == b"told "
        daemon.end(job, State.LOST)
        assert response.read() == b"untold"


def test_a_follower_of_a_queued_job_waits_for_its_start(daemon: Daemon) -> None:
    daemon.engine.queue = True
    job = daemon.start(name="q")
    assert daemon.get("/jobs/q/out").body == b""
    got = []
    reader = threading.Thread(target=lambda: got.append(daemon.get("/jobs/q/out?follow").body))
    reader.start()
    daemon.until(lambda: daemon.server.house.limits.followers == 1)
    daemon.do(job.begin)
    daemon.do(lambda: job.move(State.RUNNING))
    job.write("stdout", b"at last")
    daemon.end(job)
    reader.join(20)
    assert got == [b"at last"]


def test_attempts(daemon: Daemon) -> None:
    job = spoken(daemon)
    assert daemon.get("/jobs/s/out?attempt=1").headers["Jobsup-Attempt"] == "1"
    assert daemon.get("/jobs/s/out?attempt=2").json["error"]["field"] == "attempt"
    daemon.end(job)
    for path in job.directory.iterdir():
        path.unlink()
    job.directory.rmdir()
    assert daemon.get("/jobs/s/out?attempt=1").code == "not-found"
    assert daemon.get("/jobs/s/out").body == b""


def test_of_a_job_that_waits_for_its_next_attempt_the_last_one_is_shown(daemon: Daemon) -> None:
    job = spoken(daemon)
    daemon.do(job.again)
    assert daemon.get("/jobs/s/out?attempt=2").headers["Jobsup-Attempt"] == "2"
    for _ in range(2):
        shown = daemon.get("/jobs/s/out?tail=1")
        assert (shown.body, shown.headers["Jobsup-Attempt"]) == (b"three\n", "1")
        daemon.end(job, State.STOPPED)  # before it began: the same holds
    job = daemon.start(name="t")
    daemon.do(job.again)
    daemon.do(job.begin)
    daemon.do(lambda: job.move(State.RUNNING))
    assert daemon.get("/jobs/t/out").headers["Jobsup-Attempt"] == "2"


def test_a_follower_waits_for_the_next_attempt(daemon: Daemon) -> None:
    job = spoken(daemon)
    got: list[Answer] = []

    def follow(attempt: int) -> threading.Thread:
        ask = f"/jobs/s/out?follow&attempt={attempt}"
        reader = threading.Thread(target=lambda: got.append(daemon.get(ask)))
        reader.start()
        daemon.until(lambda: daemon.server.house.limits.followers == 1)
        return reader

    assert daemon.get("/jobs/s/out?follow&attempt=3").json["error"]["field"] == "attempt"
    reader = follow(2)
    daemon.do(job.again)
    daemon.do(job.begin)
    daemon.do(lambda: job.move(State.RUNNING))
    job.write("stdout", b"again")
    daemon.do(job.again)
    reader.join(20)
    assert (got[0].body, got[0].headers["Jobsup-Attempt"]) == (b"again", "2")
    daemon.until(lambda: daemon.server.house.limits.followers == 0)
    daemon.do(job.begin)
    daemon.do(lambda: job.move(State.RUNNING))
    reader = follow(4)
    daemon.end(job)  # and there will be no fourth
    reader.join(20)
    assert (got[1].code, got[1].json["error"]["field"]) == ("bad-value", "attempt")


def test_a_large_output_to_many_slow_and_dead_readers(daemon: Daemon) -> None:
    job = daemon.start(name="big")
    piece = os.urandom(1 << 20)
    for _ in range(20):
        job.write("stdout", piece)
    job.write("stderr", b"x" * 100)
    asked = b"GET /jobs/big/out?follow HTTP/1.1\r\nHost: x\r\n\r\n"
    sleepers = [daemon.raw(asked) for _ in range(50)]
    for sleeper in sleepers:
        sleeper.__enter__()
    daemon.until(lambda: daemon.server.house.limits.followers == 50)
    resident = _resident()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(daemon.get("/jobs/big/out?follow").body))
    reader.start()
    for _ in range(20):
        job.write("stdout", piece)
    daemon.end(job)
    reader.join(60)
    assert got == [piece * 20 + b"x" * 100 + piece * 20]
    got.clear()
    assert daemon.get("/ping").status == 200
    assert _resident() - resident < 150 << 20  # what the reader here holds, thrice
    for sleeper in sleepers:
        sleeper.__exit__(None, None, None)
    daemon.until(lambda: daemon.server.house.limits.followers == 0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_small_bursts_of_both_streams_keep_their_order(daemon: Daemon) -> None:
    job = daemon.start(name="mixed")
    expected = b""
    for number in range(3000):
        data = b"%d " % number
        job.write("stdout" if number % 3 else "stderr", data)
        expected += data
    assert daemon.get("/jobs/mixed/out").body == expected
    for offset in (1, 5000, len(expected) - 3, len(expected)):
        assert daemon.get(f"/jobs/mixed/out?offset={offset}").body == expected[offset:]


def test_answers_that_last_can_be_cut_off(daemon: Daemon) -> None:
    """All that last, at once, as a daemon that goes does; nobody waits for its patience to end."""
    daemon.start(name="f")
    with (
        daemon.raw(b"GET /jobs/f/out?follow HTTP/1.1\r\nHost: x\r\n\r\n") as follower,
        daemon.raw(b"GET /jobs/f/wait HTTP/1.1\r\nHost: x\r\n\r\n") as waiting,
    ):
        daemon.until(lambda: len(daemon.server.house._lasting) == 2)
        daemon.do(daemon.server.house.cut_off)
        assert everything(follower).endswith(b"\r\n\r\n")  # of the head
        assert everything(waiting) == b""
    assert daemon.get("/ping").status == 200


def test_a_daemon_that_goes_cuts_its_followers_off(daemon: Daemon) -> None:
    job = daemon.start(name="f")
    with (
        daemon.raw(b"GET /jobs/f/out?follow HTTP/1.1\r\nHost: x\r\n\r\n") as client,
        daemon.raw(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n") as listener,
    ):
        job.write("stdout", b"begun")
        told = b""
        while not told.endswith(b"begun\r\n"):
            told += client.recv(1000)
        daemon.close()
        assert everything(client) == b""  # no last chunk
        assert b"\r\n0\r\n\r\n" not in everything(listener)
    assert not daemon.path.exists()
