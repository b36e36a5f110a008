"""One user does everything at once that an owner may do, and more; another is served meanwhile.

What the flood takes is bounded by what the daemon lets an owner have, each thing told as it is
refused; nothing of it is left when the flood is over.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.daemon.conftest import Opener
from tests.daemon.served import Served, answer_of, one_answer, received, request

MALLORY, ANNA = 47011, 47012
OWNER_JOBS, OWNER_FOLLOWERS, UPLOADS = 6, 4, 16
FLAGS = ("--owner-jobs", str(OWNER_JOBS), "--owner-followers", str(OWNER_FOLLOWERS))
BIG = {"argv": ["sleep", "1000"], "cwd": "/", "env": {"FILL": "x" * 100_000}, "output_max": 0}


def form(stdin: bytes, *, whole: bool = False) -> bytes:
    """A job and its input, or the beginning of that."""
    job = b'{"argv": ["cat"], "cwd": "/"}'
    body = b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n' + job
    body += b'\r\n--b\r\nContent-Disposition: form-data; name="stdin"\r\n\r\n' + stdin
    body += b"\r\n--b--\r\n" if whole else b""
    size = len(body) if whole else 100_000_000
    head = f"POST /jobs/run HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body


def bytes_under(daemon: Served, place: str) -> int:
    total = 0
    for entry in os.scandir(daemon.state / "lib" / place):
        with suppress(FileNotFoundError):
            total += entry.stat().st_size
    return total


@pytest.fixture
def served(open_daemon: Opener) -> Iterator[Served]:
    yield open_daemon(*FLAGS, "--owner-bytes", "3M", descriptors=1000)


def say(connection: socket.socket, data: bytes) -> None:
    """As much as is taken; who was refused need not read."""
    connection.setblocking(False)
    with suppress(BlockingIOError, BrokenPipeError):
        connection.sendall(data)
    connection.settimeout(60)


def linger(connection: socket.socket) -> None:
    """A descriptor with it whose last close would wait an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        kept, _ = server.accept()
    KEPT.append(kept)
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 20))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    # Still ours when the daemon has it: only a thread of the daemon's closes it last.
    with suppress(BrokenPipeError):
        socket.send_fds(connection, [b"GET /ping HTTP/1.1\r\n"], [client.fileno()])
    KEPT.append(client)


KEPT: list[socket.socket] = []


def test_another_user_is_served_while_one_floods(served: Served) -> None:
    job = served.shell("echo mine; exec sleep 1000", uid=ANNA)
    ours = served.connect(ANNA)
    with ExitStack() as stack:

        def flood(count: int, act: Callable[[socket.socket], object]) -> list[socket.socket]:
            made = [stack.enter_context(served.connect(MALLORY)) for _ in range(count)]
            for connection in made:
                act(connection)
            return made

        def progress(of: socket.socket = ours) -> None:
            """Everything that the other one wants."""
            of.sendall(request("GET", "/ping"))
            assert one_answer(of).status == 200
            of.sendall(request("GET", f"/jobs/{job}"))
            assert one_answer(of).said["state"] == "running"
            assert served.ask("GET", f"/jobs/{job}/out", uid=ANNA).body == b"mine\n"

        jobs = flood(20, lambda to: say(to, request("POST", "/jobs/run", BIG)))
        progress()
        codes = Counter(one_answer(each).status for each in jobs)
        assert codes == {201: OWNER_JOBS, 429: 20 - OWNER_JOBS}

        theirs = served.ask("GET", "/jobs", uid=MALLORY).said["jobs"][0]["id"]
        follow = request("GET", f"/jobs/{theirs}/out?follow=1")
        heads = [each.recv(4096) for each in flood(12, lambda to: say(to, follow))]
        assert sum(b" 200 OK" in head for head in heads) == OWNER_FOLLOWERS
        flood(20, lambda to: say(to, request("GET", f"/jobs/{theirs}/wait")))
        progress()

        uploads = flood(24, lambda to: say(to, form(bytes(150_000))))
        progress()
        assert bytes_under(served, "incoming") <= 3 << 20
        flood(10, lambda to: say(to, b"GET /ping HTTP/1.1\r\nX: " * 100))
        flood(10, lambda to: say(to, request("GET", "/ping") * 1000))
        flood(10, linger)
        progress()
        extra = flood(200, lambda to: say(to, request("GET", "/openapi.json")))
        progress()
        assert b"overloaded" in b"".join(received(extra[-1]))

        # With new connections and new jobs as well, not only with those from before.
        another = stack.enter_context(served.connect(ANNA))
        progress(another)
        mine = served.submit(["echo", "mine as well"], uid=ANNA)
        assert served.ask("GET", f"/jobs/{mine}/wait", uid=ANNA).said["state"] == "completed"
        refused = [answer_of(b"".join(received(each))) for each in uploads[UPLOADS:]]
        assert {answer.code for answer in refused} == {"quota"}
    for connection in KEPT:
        connection.close()
    ours.close()
    while served.metric("jobsup_connections") > 1:
        pass
    assert bytes_under(served, "incoming") == 0
    for line in served.api.all():
        served.api.call("DELETE", f"/jobs/{line['id']}", force=1)
    assert "Traceback" not in served.log.read_text(), served.log.read_text()[-4000:]


def test_an_owners_uploads_count_for_their_quota(served: Served) -> None:
    """Bytes that no job has got yet, of several together; others have their own."""
    with served.connect(MALLORY) as first, served.connect(MALLORY) as second:
        first.sendall(form(bytes(2 << 20)))
        while bytes_under(served, "incoming") < 1 << 20:
            pass
        with suppress(BrokenPipeError):
            second.sendall(form(bytes(4 << 20)))
        assert answer_of(b"".join(received(second))).code == "quota"
        with served.connect(ANNA) as other:
            other.sendall(form(bytes(2 << 20), whole=True))
            assert one_answer(other).status == 201
    while served.metric("jobsup_connections") > 1:
        pass
    assert bytes_under(served, "incoming") == 0
