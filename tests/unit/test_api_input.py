"""A job that brings what it reads, and one in the foreground of its caller."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from jobsup.supervisor.errors import NotReady
from tests.unit.pretended import Daemon, everything

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
    brief.until(lambda: len(os.listdir("/proc/self/fd")) == before)  # a thread closes them
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
