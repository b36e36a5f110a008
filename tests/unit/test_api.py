"""The API on its socket: the real server and real connections, jobs that only pretend."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.daemon.api.spool import ENTRY, Entry
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import LimitNotEnforceable, NotReady, PathRefused
from tests.unit.pretended import Daemon, Pretended, everything

NOBODY = 65534


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Daemon]:
    """One that has little patience and little room."""
    tmp_path.chmod(0o711)
    with Daemon(
        tmp_path,
        header_seconds=0.3,
        body_max=1000,
        stdin_max=2000,
        connections=20,
        owner_followers=2,
    ) as daemon:
        yield daemon


def as_nobody(call: Callable[[], object]) -> Any:  # noqa: ANN401
    """What it returns to a process of another user, by JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(call()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(told)


# ---- jobs


def test_a_job_from_start_to_end(daemon: Daemon) -> None:
    answer = daemon.call("POST", "/jobs/run", {"argv": ["echo", "hi"], "name": "first"})
    assert (answer.status, answer.json["state"]) == (201, "running")
    job = daemon.engine.all[answer.json["id"]]
    assert daemon.get("/jobs/first/status").json == daemon.get(f"/jobs/{job.record.id}").json
    assert [each["name"] for each in daemon.get("/jobs?state=running").json["jobs"]] == ["first"]
    assert daemon.call("PUT", "/jobs/first/pause").json["state"] == "paused"
    assert daemon.call("PUT", "/jobs/first/resume").json["state"] == "running"
    assert daemon.call("PUT", "/jobs/first/set", {"mem": "1G"}).json["limits"]
    assert daemon.call("PUT", "/jobs/first/signal", {"signal": "HUP"}).status == 200
    assert daemon.call("PUT", "/jobs/first/stop").json["state"] == "stopped"
    again = daemon.call("PUT", "/jobs/first/stop", {"signal": "INT", "grace": "1s"})
    assert (again.status, again.code) == (409, "wrong-state")
    assert daemon.call("DELETE", "/jobs/first").json == {"removed": [job.record.id]}
    assert daemon.get("/jobs/first").code == "not-found"


def test_arguments_that_are_no_text_arrive(daemon: Daemon) -> None:
    job = daemon.start("x", {"base64": "//4="})  # type: ignore[arg-type]
    assert job.record.argv == ["x", "\\xff\\xfe"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "bad-request", None),
        (b"{", "bad-request", None),
        (b"[]", "bad-request", None),
        (b"\xff", "bad-request", None),
        (b"[" * 100_000, "bad-request", None),
        (b"{}", "bad-value", "argv"),
        (b'{"argv": ["x"], "mem": "much"}', "bad-value", "mem"),
        (b'{"argv": ["x"], "mem": ' + b"9" * 5000 + b"}", "bad-request", None),
        (b'{"argv": ["x"], "nonsense": 1}', "bad-value", "nonsense"),
        (b'{"argv": ["x\\u0000"]}', "bad-value", "argv"),
    ],
)
def test_what_is_no_job_is_refused_by_name(
    daemon: Daemon, body: bytes, code: str, field: str | None
) -> None:
    answer = daemon.call("POST", "/jobs/run", body)
    assert (answer.status, answer.code) == (400, code)
    assert answer.json["error"].get("field") == field
    assert daemon.engine.all == {}


@pytest.mark.parametrize(
    ("refusal", "status", "told"),
    [
        (NotReady("not now"), 503, {"code": "not-ready", "message": "not now"}),
        (
            PathRefused("rw", b"/caf\xe9", "is not there"),
            422,
            {"code": "path-refused", "field": "rw", "value": "/caf\\udce9"},
        ),
        (
            LimitNotEnforceable("memory.max", "no controller", hint="mount it"),
            422,
            {"code": "limit-not-enforceable", "field": "memory.max", "hint": "mount it"},
        ),
        (OSError(24, "Too many open files"), 503, {"code": "overloaded"}),
        (OSError(28, "No space left"), 507, {"code": "storage-full"}),
    ],
)
def test_a_refusal_is_told_by_its_code(
    daemon: Daemon, refusal: Exception, status: int, told: dict[str, str]
) -> None:
    daemon.engine.refusal = refusal
    answer = daemon.call("POST", "/jobs/run", {"argv": ["x"]})
    assert answer.status == status
    assert answer.json["error"].items() >= told.items()


def test_a_mistake_of_ours_is_logged_and_not_shown(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.start(name="x")
    daemon.engine.fault = KeyError("secret")
    answer = daemon.get("/jobs/x")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret" not in answer.body
    assert "secret" in caplog.text
    daemon.engine.fault = None
    assert daemon.get("/jobs/x").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no-such-path"),
        ("GET", "/jobs/", 404, "no-such-path"),
        ("GET", "/jobs/x/nothing", 404, "no-such-path"),
        ("GET", "/jobs/..%2Fping", 404, "not-found"),
        ("GET", "/jobs/%FF%00", 404, "not-found"),
        ("GET", "/control/start", 405, "wrong-method"),
        ("POST", "/ping", 405, "wrong-method"),
        ("GET", "/ping?x=1", 400, "bad-request"),
        ("GET", "/jobs?limit=1&limit=2", 400, "bad-request"),
        ("GET", "/jobs?limit=no", 400, "bad-value"),
        ("GET", "/jobs?name=%FF", 400, "bad-request"),
        ("GET", "/jobs/x/out?stream=stdin", 400, "bad-value"),
        ("GET", "/jobs/x/out?since=2026-13-01T00:00", 400, "bad-value"),
    ],
)
def test_what_is_asked_wrongly(
    daemon: Daemon, method: str, path: str, status: int, code: str
) -> None:
    answer = daemon.call(method, path)
    assert (answer.status, answer.code) == (status, code)


def test_waiting_for_an_end(daemon: Daemon) -> None:
    job = daemon.start(name="w")
    assert daemon.get("/jobs/w/wait?timeout=0").json["state"] == "running"
    with daemon.raw(b"GET /jobs/w/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client:
        daemon.until(lambda: len(daemon.server.house._lasting) == 1)
        daemon.end(job)
        assert b'"state":"completed"' in everything(client)


def test_control_is_of_root(daemon: Daemon) -> None:
    assert daemon.get("/control").json == {"state": "ready"}
    assert daemon.call("PUT", "/control/stop").json == {"state": "unready"}
    assert daemon.call("POST", "/jobs/run", {"argv": ["x"]}).code == "not-ready"
    assert daemon.get("/ping").json["ready"] is False
    assert daemon.call("PUT", "/control/start").json == {"state": "ready"}
    daemon.start()
    assert daemon.call("PUT", "/control/terminate").json == {"state": "unready"}
    assert daemon.get("/jobs").json["jobs"][0]["state"] == "stopped"


def test_events_of_one_job_and_of_all(daemon: Daemon) -> None:
    first, second = daemon.start(), daemon.start()
    with (
        daemon.following("/events") as of_all,
        daemon.following(f"/events?job={second.record.id}") as of_one,
    ):
        daemon.end(first)
        daemon.end(second)
        told = [json.loads(of_all.readline()) for _ in range(2)]
        assert [event["id"] for event in told] == [first.record.id, second.record.id]
        assert json.loads(of_one.readline())["id"] == second.record.id
    daemon.until(lambda: daemon.server.house.limits.followers == 0)


def test_metrics_are_numbers_with_names(daemon: Daemon) -> None:
    daemon.start()
    page = daemon.get("/metrics").body.decode()
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert samples['jobsup_jobs{state="running"}'] == "1"
    assert float(samples["process_open_fds"]) > 5


# ---- owners


@pytest.mark.requires("root")
def test_another_owners_job_is_as_absent(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with Daemon(tmp_path) as daemon:
        daemon.path.parent.parent.chmod(0o711)
        job = daemon.start(name="roots")
        _reach(tmp_path)

        def asked() -> object:
            verbs = ("stop", "kill", "pause", "resume")
            absent, foreign = (
                [
                    [daemon.call("PUT", f"/jobs/{ref}/{verb}").code for verb in verbs],
                    daemon.call("PUT", f"/jobs/{ref}/set", {"mem": "1G"}).code,
                    daemon.call("PUT", f"/jobs/{ref}/signal", {"signal": 1}).code,
                    daemon.call("DELETE", f"/jobs/{ref}?force").code,
                    daemon.get(f"/events?job={ref}").code,
                    [
                        daemon.get(f"/jobs/{ref}{what}").json["error"]["code"]
                        for what in ("", "/status", "/out", "/wait", "/out?follow")
                    ],
                ]
                for ref in ("roots", "absent")
            )
            mine = daemon.call("POST", "/jobs/run", {"argv": ["x"]}).status
            listed = [each["user"] for each in daemon.get("/jobs").json["jobs"]]
            forbidden = [
                daemon.call("PUT", "/control/stop").code,
                daemon.get("/metrics").code,
            ]
            return [absent == foreign, mine, listed, forbidden]

        told = as_nobody(asked)
        assert told == [True, 201, [str(NOBODY)], ["forbidden", "forbidden"]]
        assert job.record.state is State.RUNNING
        assert len(daemon.get("/jobs").json["jobs"]) == 2


def _reach(path: Path) -> None:
    """Let everybody pass to it."""
    for parent in (path, *path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.mark.requires("root")
def test_an_owner_has_a_quota_of_followers_and_half_of_the_connections(brief: Daemon) -> None:
    _reach(brief.path.parent)

    def asked() -> object:
        brief.call("POST", "/jobs/run", {"argv": ["x"], "name": "mine"})
        held = [brief.following("/jobs/mine/out?follow") for _ in range(2)]
        entered = [each.__enter__() for each in held]
        refused = brief.get("/events")
        more = []
        status = 200
        while status == 200:
            connection = brief.connect()
            connection.request("GET", "/ping")
            response = connection.getresponse()
            response.read()
            status = response.status
            more.append(connection)
        return [refused.status, refused.code, status, len(more) + len(entered)]

    *told, connections = as_nobody(asked)
    assert told == [429, "quota", 503]
    assert 8 <= connections <= 11  # one that was closed just before may still be counted


def test_whoever_comes_when_it_is_full_is_told_so(brief: Daemon) -> None:
    held = [brief.connect() for _ in range(20)]
    for connection in held:
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
    refused = brief.get("/ping")
    assert (refused.status, refused.code) == (503, "overloaded")
    held[0].close()
    brief.until(lambda: brief.server.house.limits.connections < 20)
    assert brief.get("/ping").status == 200
    for connection in held:
        connection.close()


# ---- what comes slowly, in part, or too much


def test_a_head_that_does_not_come_is_not_waited_for(brief: Daemon) -> None:
    for part in (b"", b"GET /ping HTTP/1.1\r\nHost:"):
        with brief.raw(part) as client:
            assert everything(client).startswith(b"HTTP/1.1 408 ")
    brief.until(lambda: brief.server.house.limits.connections == 0)


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(brief: Daemon) -> None:
    with brief.raw(b"GET /") as client:
        client.settimeout(0.05)
        told = b""
        while not told:
            client.send(b"x")
            with suppress(TimeoutError):
                told = client.recv(1000)
        assert told.startswith(b"HTTP/1.1 408 ")


def test_a_connection_may_rest_between_requests(brief: Daemon) -> None:
    connection = brief.connect()
    for _ in range(2):
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
        time.sleep(0.5)  # more than brief has patience for with a head
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200
    # …but a head that was begun has its time here too.
    assert connection.sock is not None
    connection.sock.sendall(b"GET /pi")
    time.sleep(0.1)
    assert everything(connection.sock).endswith(b"}\n")
    connection.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come_is_not_waited_for(brief: Daemon, framing: bytes) -> None:
    with brief.raw(b"POST /jobs/run HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_body_has_a_limit_known_before_or_not(brief: Daemon) -> None:
    answer = brief.call("POST", "/jobs/run", b"x" * 1001)
    assert (answer.status, answer.code) == (413, "too-large")
    head = b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with brief.raw(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_half_closed_client_gets_its_answer(daemon: Daemon) -> None:
    with daemon.raw(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        client.shutdown(socket.SHUT_WR)
        assert everything(client).startswith(b"HTTP/1.1 200 ")
    with daemon.raw(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 3) as client:
        client.shutdown(socket.SHUT_WR)
        assert everything(client).count(b"HTTP/1.1 200 ") == 3


def test_a_half_closed_follower_follows_until_it_is_gone(daemon: Daemon) -> None:
    job = daemon.start(name="f")
    for _ in range(2):
        with daemon.raw(b"GET /jobs/f/out?follow HTTP/1.1\r\nHost: x\r\n\r\n") as client:
            client.shutdown(socket.SHUT_WR)
            daemon.until(lambda: daemon.server.house.limits.followers == 1)
            job.write("stdout", b"late")
            told = b""
            while b"late" not in told:
                told += client.recv(1000)
        daemon.until(lambda: daemon.server.house.limits.followers == 0)


def test_a_vanished_client_leaves_nothing_behind(daemon: Daemon) -> None:
    daemon.start(name="f")
    daemon.get("/ping")
    daemon.until(lambda: daemon.server.house.limits.connections == 0)
    before = len(os.listdir("/proc/self/fd"))
    for what in ("out?follow", "out?follow&stream=stdout", "wait"):
        # The unread requests behind it hide the end of the connection from who only reads.
        asked = f"GET /jobs/f/{what} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        with daemon.raw(asked + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 100):
            daemon.until(lambda: len(daemon.server.house._lasting) == 1)
        daemon.until(lambda: daemon.server.house.limits.connections == 0)
    daemon.until(lambda: not daemon.server.house._lasting)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x16\x03\x01 garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n\r\n",  # without a Host
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_in_the_one_shape(daemon: Daemon, garbage: bytes) -> None:
    with daemon.raw(garbage) as client:
        told = everything(client)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), told
    assert json.loads(body)["error"]["code"] in ("bad-request", "no-such-path")
    assert daemon.get("/ping").status == 200


def test_idle_connections_cost_no_processor_time(daemon: Daemon) -> None:
    held = [daemon.connect() for _ in range(300)]
    for connection in held:
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
    # The loop must find nothing to do: it turns only when something wakes it.
    turns = 0

    def count(original: Callable[[], None]) -> Callable[[], None]:
        def counted() -> None:
            nonlocal turns
            turns += 1
            original()

        return counted

    daemon.do(lambda: setattr(daemon.loop, "_run_once", count(daemon.loop._run_once)))  # type: ignore[attr-defined]
    before = turns
    time.sleep(1)
    assert turns - before <= 1
    for connection in held:
        connection.close()


# ---- output


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


# ---- input


def form(job: bytes, stdin: bytes, end: bytes = b"\r\n--b--\r\n") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n' + job + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="stdin"\r\n\r\n' + stdin + end
    )


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JOB = b'{"argv": ["cat"], "name": "reads"}'


def incoming(daemon: Daemon) -> list[str]:
    return os.listdir(daemon.settings.lib / "incoming")


def test_a_job_comes_with_what_it_reads(daemon: Daemon) -> None:
    stdin = os.urandom(3_000_000) + b"\r\n--"
    answer = daemon.call("POST", "/jobs/run", form(JOB, stdin), **FORM)
    assert answer.status == 201, answer.body
    assert daemon.engine.all[answer.json["id"]].stdin == stdin
    assert incoming(daemon) == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (form(JOB, b"x" * 2001), 413, "too-large"),
        (form(b"{" + b" " * 1001, b""), 413, "too-large"),
        (form(b"{}", b"x"), 400, "bad-value"),
        (form(JOB, b"cut", b""), 400, "bad-request"),
        (form(JOB, b"x", b"\r\n--b\r\n\r\nmore\r\n--b--\r\n"), 400, "bad-request"),
        (b"--b--\r\n", 400, "bad-request"),
        (b"", 400, "bad-request"),
        (b"no form", 400, "bad-request"),
    ],
)
def test_a_form_that_is_none(brief: Daemon, body: bytes, status: int, code: str) -> None:
    answer = brief.call("POST", "/jobs/run", body, **FORM)
    assert (answer.status, answer.code) == (status, code)
    assert incoming(brief) == []
    assert brief.engine.all == {}


def test_a_form_whose_client_vanishes_leaves_no_file(brief: Daemon) -> None:
    head = (
        b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with brief.raw(head + form(JOB, b"x" * 1000, b"")) as client:
        while not incoming(brief):
            client.send(b"x")
            time.sleep(0.01)
    brief.until(lambda: incoming(brief) == [])
    with brief.raw(head + form(JOB, b"x" * 1000, b"")) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        brief.until(lambda: incoming(brief) == [])


def test_whoever_asks_before_sending_is_welcomed(daemon: Daemon) -> None:
    head = (
        b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n"
    )
    with daemon.raw(head) as client:
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b'{"argv": ["x"]}')
        assert client.recv(1000).startswith(b"HTTP/1.1 201 ")


# ---- in the foreground

UPGRADE = (
    b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: jobsup-run\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def upgrade(job: bytes = JOB) -> bytes:
    return UPGRADE % (len(job), job)


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """stdin, stdout, stderr and the lifeline, as a client sends them."""
    stdin, lifeline = os.pipe(), os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    yield [stdin[0], null, null, lifeline[0]]
    for descriptor in (*stdin, *lifeline, null):
        os.close(descriptor)


def test_a_job_in_the_foreground_gets_its_callers_descriptors(
    daemon: Daemon, pipes: list[int]
) -> None:
    with daemon.raw(upgrade()) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        socket.send_fds(client, [b"x"], pipes)
        told = json.loads(everything(client))
    job = daemon.engine.all[told["id"]]
    assert job.attached is not None
    for theirs, ours in zip(job.attached, pipes, strict=True):
        assert theirs is not None
        assert os.path.sameopenfile(theirs, ours)
        assert not os.get_inheritable(theirs)
    job.attached.close()
    assert daemon.get("/jobs/reads/out").code == "wrong-state"


def test_an_empty_stdin_is_nobodys(daemon: Daemon, pipes: list[int]) -> None:
    with daemon.raw(upgrade()) as client:
        client.recv(1000)
        socket.send_fds(client, [b"x"], [pipes[1], *pipes[1:]])
        job = daemon.engine.all[json.loads(everything(client))["id"]]
    assert job.attached is not None
    assert job.attached.stdin is None
    job.attached.close()


def test_a_refused_upgrade_is_an_answer_like_any_other(brief: Daemon) -> None:
    with brief.raw(upgrade(b"{}")) as client:
        told = everything(client)  # to its end: what came after it would not be a request
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in told


@pytest.mark.parametrize(
    ("choose", "code"),
    [
        (lambda pipes: pipes[:3], "bad-request"),
        (lambda pipes: [*pipes, pipes[0]], "bad-request"),
        (lambda pipes: [pipes[0], pipes[1], pipes[2], pipes[1]], "bad-request"),
        (lambda _: [], "bad-request"),
        (None, "too-slow"),
    ],
)
def test_other_descriptors_are_closed_and_refused(
    brief: Daemon,
    pipes: list[int],
    choose: Callable[[list[int]], list[int]] | None,
    code: str,
) -> None:
    brief.get("/ping")
    brief.until(lambda: brief.server.house.limits.connections == 0)
    before = len(os.listdir("/proc/self/fd"))
    with brief.raw(upgrade()) as client:
        client.recv(1000)
        if choose is not None:
            socket.send_fds(client, [b"x"], choose(pipes))
        assert json.loads(everything(client))["error"]["code"] == code
    brief.until(lambda: brief.server.house.limits.connections == 0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert brief.engine.all == {}


def test_a_directory_is_no_stdin(brief: Daemon, pipes: list[int]) -> None:
    directory = os.open("/", os.O_RDONLY)
    with brief.raw(upgrade()) as client:
        client.recv(1000)
        socket.send_fds(client, [b"x"], [directory, *pipes[1:]])
        assert json.loads(everything(client))["error"]["code"] == "bad-request"
    os.close(directory)


def test_what_is_refused_after_the_upgrade_is_one_line(brief: Daemon, pipes: list[int]) -> None:
    brief.engine.refusal = NotReady("not now")
    with brief.raw(upgrade()) as client:
        client.recv(1000)
        socket.send_fds(client, [b"x"], pipes)
        assert json.loads(everything(client))["error"]["code"] == "not-ready"


# ---- the socket and the host


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
        dead.listen()
    with Daemon(tmp_path) as daemon:
        assert daemon.path.stat().st_mode & 0o777 == 0o666

        async def again() -> None:
            daemon.server.listen(daemon.path)

        with pytest.raises(OSError, match="in use"):
            daemon.run(again())
        assert daemon.get("/ping").status == 200


def test_a_socket_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with Daemon(deep) as daemon:
        os.chdir(deep)
        daemon.path = Path("s")  # from here it is short enough for this client
        assert daemon.get("/ping").status == 200


def test_without_descriptors_callers_are_sent_away_and_later_served(tmp_path: Path) -> None:
    """In a process of its own, which has few."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = _exhausted(tmp_path)
        finally:
            os._exit(status)
    deadline = threading.Timer(60, os.kill, (pid, signal.SIGKILL))
    deadline.start()
    status = os.waitpid(pid, 0)[1]
    deadline.cancel()
    assert status == 0


def _exhausted(root: Path) -> int:
    import resource

    with Daemon(root) as daemon:
        daemon.get("/ping")
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        hold = [os.open("/dev/null", os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hold[0] + 5, 20_000))
        try:
            while True:
                hold.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        client.connect(str(daemon.path))
        told = everything(client)
        if not told.startswith(b"HTTP/1.1 503 ") or b'"overloaded"' not in told:
            return 2
        for descriptor in hold:
            os.close(descriptor)
        return 0 if daemon.get("/ping").status == 200 else 3


def test_credentials_are_those_of_the_caller() -> None:
    from jobsup.supervisor.daemon.peer import peer_of

    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer[:2] == (os.getuid(), os.getgid())
    assert sorted(peer.groups) == sorted(os.getgroups())
    assert peer.pid == os.getpid()
    assert struct.calcsize("=iII") == 12
