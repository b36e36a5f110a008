"""Descriptors that a client sends without being asked: their last close may take for ever, and must
not be the loop's to wait for."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from jobsup.supervisor.daemon.api import guarded
from tests.unit.pretended import Daemon, everything

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: jobsup-run\r\nContent-Length: 14\r\n\r\n"
RUN = b"POST /jobs/run HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b'{"argv":["x"]}'
HOUR = 3600


class Lingering:
    """TCP connections whose last close waits for a peer that reads nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._kept: list[socket.socket] = [self._listener]

    def make(self) -> socket.socket:
        """One of them; it is the caller's to close, once it was sent away."""
        client = socket.create_connection(self._listener.getsockname())
        self._kept.append(self._listener.accept()[0])
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 20))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, HOUR))
        return client

    def send(self, over: socket.socket, data: bytes, flags: int = 0, count: int = 1) -> None:
        """Send some beside the data. The daemon is to be busy meanwhile: it would else be us who
        close them last."""
        sent = [self.make() for _ in range(count)]
        numbers = array.array("i", [each.fileno() for each in sent])
        over.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)], flags)
        for each in sent:
            each.close()

    def release(self) -> None:
        for each in self._kept:
            each.close()


@contextmanager
def busy(daemon: Daemon) -> Iterator[None]:
    """Its loop does nothing meanwhile."""
    begun, end = threading.Event(), threading.Event()
    daemon.loop.call_soon_threadsafe(begun.set)
    daemon.loop.call_soon_threadsafe(end.wait, 20)
    assert begun.wait(20)
    try:
        yield
    finally:
        end.set()


@pytest.fixture
def lingering() -> Iterator[Lingering]:
    made = Lingering()
    yield made
    made.release()


def aside() -> int:
    return sum(isinstance(thread, guarded.Aside) for thread in threading.enumerate())


def test_sent_with_a_request_they_end_the_connection(daemon: Daemon, lingering: Lingering) -> None:
    with daemon.raw() as client:
        with busy(daemon):
            lingering.send(client, PING)
        assert daemon.get("/ping").status == 200
        assert everything(client) == b""
    daemon.until(lambda: daemon.server.house.limits.connections == 0)


def test_also_behind_other_bytes_and_out_of_band(daemon: Daemon, lingering: Lingering) -> None:
    for flags in (0, socket.MSG_OOB):
        with daemon.raw(PING) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            client.send(PING[:9])
            with busy(daemon):
                lingering.send(client, b"x", flags)
            with suppress(BrokenPipeError):
                client.send(PING)
            assert daemon.get("/ping").status == 200


@pytest.mark.parametrize("asked", [b"GET /jobs/f/out?follow", b"GET /events", b"GET /jobs/f/wait"])
def test_also_while_an_answer_lasts(daemon: Daemon, lingering: Lingering, asked: bytes) -> None:
    daemon.start(name="f")
    with daemon.raw(asked + b" HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        daemon.until(lambda: len(daemon.server.house._lasting) == 1)
        with busy(daemon):
            lingering.send(client, PING)
        daemon.until(lambda: not daemon.server.house._lasting)
    assert daemon.get("/ping").status == 200


def test_also_from_who_is_sent_away(brief: Daemon, lingering: Lingering) -> None:
    held = [brief.connect() for _ in range(20)]
    for connection in held:
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
    with ExitStack() as stack:
        with busy(brief):
            client = stack.enter_context(brief.raw())
            lingering.send(client, PING)
        assert everything(client) == b""  # as of any other that brings some
    for connection in held:
        connection.close()
    brief.until(lambda: brief.server.house.limits.connections == 0)
    assert brief.get("/ping").status == 200


@pytest.mark.parametrize("count", [1, 4, 5])
def test_where_others_are_expected_these_are_refused(
    daemon: Daemon, lingering: Lingering, count: int
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with daemon.raw(RUN) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        with busy(daemon):
            lingering.send(client, b"x", count=count)
        told = everything(client)
    assert b'"bad-request"' in told
    assert daemon.get("/ping").status == 200
    lingering.release()
    daemon.until(lambda: len(os.listdir("/proc/self/fd")) < before)


def test_whoever_waits_for_them_is_woken(daemon: Daemon, lingering: Lingering) -> None:
    kept = signal.getsignal(signal.SIGURG)
    guarded.prepare()
    try:
        with daemon.raw() as client:
            with busy(daemon):
                lingering.send(client, PING, count=3)
            assert everything(client) == b""
            daemon.until(lambda: aside() == 0)
    finally:
        signal.signal(signal.SIGURG, kept)
