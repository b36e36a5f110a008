"""Hundreds of clients on one job's output, and an output larger than the daemon's memory.

The figures are printed (pytest -s). JOBSUP_OUTPUT_MIB=10240 is the long form of the large output;
it wants that much room in /run, or in a guest --mem 14G.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import subprocess
import time
from contextlib import ExitStack

from tests.daemon.conftest import Opener, long_form
from tests.daemon.served import Served, answer_of, received, request
from tests.machine import JOBSUP, PATIENCE, leaves

QUICK, DEAF = 200, 100
OUTPUT_MIB = long_form("JOBSUP_OUTPUT_MIB", 96)
# What one that does not read costs is in the kernel's buffers, and the task that waits for it.
KIB_A_FOLLOWER = 40
KIB_OF_A_LARGE_OUTPUT = 4096


class Reader:
    """Takes all that its connection brings, and keeps its digest alone."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.digest = hashlib.sha256()
        self.size = 0
        self.ended = False
        self._rest = b""
        self._in_head = True

    def take(self) -> None:
        data = self.connection.recv(1 << 18)
        if self._in_head:
            self._rest += data
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            # Of HTTP/1.0: the body is what follows, to the end of the connection.
            assert head.startswith(b"HTTP/1.0 200"), head
            self._in_head, data = False, rest
            if not data:
                return
        self.ended = not data
        self.digest.update(data)
        self.size += len(data)


def follow(daemon: Served, job: str, version: str = "1.0") -> socket.socket:
    connection = daemon.connect()
    path = f"/jobs/{job}/out?follow=1&stream=stdout"
    connection.sendall(f"GET {path} HTTP/{version}\r\nHost: jobsup\r\n\r\n".encode())
    return connection


def read_all(readers: list[Reader]) -> None:
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.connection, selectors.EVENT_READ, reader)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, "nothing comes any more"
            for key, _ in ready:
                key.data.take()
                if key.data.ended:
                    selector.unregister(key.fileobj)


def test_those_who_read_get_all_and_those_who_do_not_harm_nobody(clean: Served) -> None:
    daemon, size = clean, 3 << 20
    descriptors = daemon.descriptors()
    job = daemon.shell(f"seq 1 10000000 | head -c {size}; echo done >&2; sleep 1000")
    expected = subprocess.run(
        f"seq 1 10000000 | head -c {size}", shell=True, capture_output=True, check=True
    ).stdout
    with ExitStack() as stack:
        readers = [Reader(stack.enter_context(follow(daemon, job))) for _ in range(QUICK)]
        for _ in range(DEAF):
            stack.enter_context(follow(daemon, job))
        resident = daemon.forget_peak()
        begun = time.monotonic()
        # The job has written all that it will, whoever reads: it waits for nobody.
        while daemon.api.status(job)["output"]["stderr_bytes"] == 0:
            pass
        written = time.monotonic() - begun
        daemon.api.stop(job)
        read_all(readers)
        assert {reader.digest.digest() for reader in readers} == {hashlib.sha256(expected).digest()}
        seconds, grown = time.monotonic() - begun, daemon.peak() - resident
        print(
            f"\n{QUICK} followers and {DEAF} that do not read: the job wrote {size >> 20} MiB in"
            f" {written:.2f} s, all had it after {seconds:.2f} s; the daemon grew by {grown} KiB"
        )
        assert grown < KIB_A_FOLLOWER * (QUICK + DEAF)
        assert daemon.metric("jobsup_followers") == DEAF
        status = daemon.ask("GET", f"/jobs/{job}").said
        assert status["state"] == "stopped"
        assert status["output"]["stdout_bytes"] == size
    while daemon.metric("jobsup_followers"):
        pass
    daemon.until_few_descriptors(descriptors + 5)


def test_a_deaf_follower_gets_the_rest_when_it_reads_at_last(clean: Served) -> None:
    job = clean.shell("head -c 5000000 /dev/zero")
    with follow(clean, job, "1.1") as connection:
        assert clean.api.wait(job)["state"] == "completed"
        connection.shutdown(socket.SHUT_WR)
        answer = answer_of(b"".join(received(connection)))
    assert answer.body == bytes(5_000_000)


def test_a_large_output_does_not_pass_through_memory(open_daemon: Opener) -> None:
    daemon = open_daemon()
    size = OUTPUT_MIB << 20
    job = daemon.shell(f"head -c {size} /dev/zero", output_max=2 * size)
    assert daemon.ask("GET", "/ping").status == 200
    resident, begun = daemon.forget_peak(), time.monotonic()
    with subprocess.Popen(
        [*JOBSUP, "out", "--follow", job], stdout=subprocess.PIPE, env=daemon.environment
    ) as reading:
        counting = subprocess.run(
            ["wc", "-c"], stdin=reading.stdout, capture_output=True, check=True, timeout=1000
        )
        assert reading.wait(PATIENCE) == 0
    seconds, grown = time.monotonic() - begun, daemon.peak() - resident
    print(f"\n{OUTPUT_MIB} MiB followed in {seconds:.1f} s; the daemon grew by {grown} KiB")
    assert int(counting.stdout) == size
    assert grown < KIB_OF_A_LARGE_OUTPUT
    assert leaves() == set()
    assert daemon.ask("GET", f"/jobs/{job}").said["verdict"]["output"]["lost_bytes"] == 0


def test_a_single_answer_of_all_of_it_does_not_either(clean: Served) -> None:
    size = 128 << 20
    job = clean.shell(f"head -c {size} /dev/zero")
    clean.api.wait(job)
    resident = clean.forget_peak()
    got = 0
    with clean.connect() as connection:
        connection.sendall(request("GET", f"/jobs/{job}/out", close=True))
        for data in received(connection):
            got += len(data)
    assert got > size
    assert clean.peak() - resident < KIB_OF_A_LARGE_OUTPUT
