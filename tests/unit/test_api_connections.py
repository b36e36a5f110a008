"""The API's connections: slow, half closed, vanished, too many, and no HTTP at all."""

from __future__ import annotations

import errno
import fcntl
import functools
import gc
import json
import os
import signal
import socket
import struct
import termios
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp.web_protocol import RequestHandler

from jobsup.supervisor.daemon.api import connection as connections
from jobsup.supervisor.daemon.peer import GROUPS_MOST, peer_of
from tests.unit.pretended import Daemon, everything


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


@pytest.mark.parametrize("path", [b"/ping", b"/no/such/path"])
def test_an_answer_before_its_body_is_the_last(brief: Daemon, path: bytes) -> None:
    """What comes after it is no request, and no reason for another answer."""
    with brief.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n") as client:
        told = client.recv(1000)
        client.send(b"12")
        time.sleep(0.5)  # more than brief has patience for with a head
        with suppress(BrokenPipeError):
            client.send(b"3456789")
        told += everything(client)
    assert told.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in told


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


def test_what_comes_after_a_malformed_request_is_not_kept(daemon: Daemon) -> None:
    """The answer to the first request keeps that to the malformed one waiting."""
    daemon.start(name="f")
    head = b"GET /jobs/f/wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    rest = b"zz\r\n" * 50_000
    gc.disable()  # a full collection is rare in the daemon: much is frozen there
    tracemalloc.start()
    try:
        for _ in range(3):
            with daemon.raw(head) as client:
                daemon.until(lambda: len(daemon.server.house._lasting) == 1)
                for _ in range(10):
                    client.sendall(rest)
                    _until_read(client)
            daemon.until(lambda: daemon.server.house.limits.connections == 0)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < 5 * len(rest)


def _until_read(client: socket.socket) -> None:
    while struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4))[0]:
        time.sleep(0.002)


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


def test_a_socket_may_lie_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with Daemon(deep) as daemon:
        monkeypatch.chdir(deep)
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
        daemon.until(lambda: daemon.server.house.limits.connections == 0)  # or it frees one later
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
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer[:2] == (os.getuid(), os.getgid())
    assert sorted(peer.groups) == sorted(os.getgroups())
    assert peer.pid == os.getpid()


def _in_groups(count: int, call: Callable[[], None]) -> None:
    kept = os.getgroups()
    os.setgroups(range(100_000, 100_000 + count))
    try:
        call()
    finally:
        os.setgroups(kept)


@pytest.mark.skipif(os.getuid() != 0, reason="only root takes groups")
@pytest.mark.parametrize("count", [0, 1, 64, 65, 100, 257, GROUPS_MOST])
def test_all_groups_of_the_caller_are_known(tmp_path: Path, count: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as theirs:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        _in_groups(count, lambda: theirs.connect(str(tmp_path / "s")))
        with listener.accept()[0] as ours:
            assert peer_of(ours).groups == tuple(range(100_000, 100_000 + count))


@pytest.mark.skipif(os.getuid() != 0, reason="only root takes groups")
def test_who_is_in_many_groups_is_served_and_in_too_many_is_told(daemon: Daemon) -> None:
    limits = daemon.server.house.limits
    with socket.socket(socket.AF_UNIX) as client:
        _in_groups(100, lambda: client.connect(str(daemon.path)))
        client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 200 ")
    for count in (GROUPS_MOST + 1, 65_536):
        with socket.socket(socket.AF_UNIX) as client:
            _in_groups(count, functools.partial(client.connect, str(daemon.path)))
            client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            told = everything(client)
        assert told.startswith(b"HTTP/1.1 429 ")
        assert f"{count} supplementary groups".encode() in told
    daemon.until(lambda: limits.connections == 0 and not limits._refused)


@pytest.mark.parametrize("failing", ["peer_of", "enter", "super"])
def test_a_connection_that_cannot_be_made_is_broken_off(
    daemon: Daemon,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "for the test")

    limits = daemon.server.house.limits
    daemon.get("/ping")
    daemon.until(lambda: limits.connections == 0)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as broken:
        if failing == "peer_of":
            broken.setattr(connections, "peer_of", fail)
        elif failing == "enter":
            broken.setattr(limits, "enter", fail)
        else:
            broken.setattr(RequestHandler, "connection_made", fail)
        for said in (b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n") * 5:
            with suppress(ConnectionError), daemon.raw(said) as client:
                assert not everything(client)
    daemon.until(lambda: len(os.listdir("/proc/self/fd")) == before)
    assert (limits.connections, limits._refused.total()) == (0, 0)
    assert not daemon.server._connections.connections
    told = [record.message for record in caplog.records]
    assert sum("could not be made" in line for line in told) == 1
    assert len(told) == 1  # the loop has nothing to complain of
    assert daemon.get("/ping").status == 200
