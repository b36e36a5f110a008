"""Clients that are slow, half gone, idle or too many: they cost themselves, and nobody else."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.daemon.conftest import Opener
from tests.daemon.served import Answer, Served, answer_of, one_answer, received, request
from tests.kernel.resting import wait_resting
from tests.machine import PATIENCE, Leaf, children, inits, wait_ended

SOMEBODY, SOMEBODY_ELSE = 47001, 47002
IDLE = 1000


def dribble(connections: list[socket.socket], data: bytes) -> list[bytes]:
    """Send a byte a second on each, until the daemon has closed all; what it said to each."""
    said = dict.fromkeys(connections, b"")
    left, at = set(connections), 0
    deadline = time.monotonic() + PATIENCE
    while left:
        assert time.monotonic() < deadline, f"{len(left)} connections stay"
        at += 1
        for connection in left:
            with suppress(ConnectionError):
                connection.send(data[at : at + 1])
        ready, _, _ = select.select(list(left), [], [], 1)
        for connection in ready:
            try:
                got = connection.recv(4096)
            except ConnectionResetError:
                got = b""
            said[connection] += got
            left -= set() if got else {connection}
    return list(said.values())


def test_the_slow_are_closed_and_others_served_meanwhile(clean: Served) -> None:
    job = clean.shell("sleep 1000")
    head = b"GET /jobs HTTP/1.1\r\nHost: jobsup\r\nX-Slow: "
    begun = b"POST /jobs/run HTTP/1.1\r\nHost: jobsup\r\nContent-Length: 500\r\n\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(clean.connect()) for _ in range(120)]
        for connection in slow[:100]:
            connection.send(head)
        for connection in slow[100:]:
            connection.sendall(begun)  # and a body that comes byte by byte
        assert clean.api.status(job)["state"] in ("starting", "running")
        said = dribble(slow, b"a" * 1000)
    # Each is told once, also those whose bytes go on coming.
    assert {answer_of(answer).code for answer in said} == {"too-slow"}
    assert clean.metric("jobsup_connections") == 1
    assert [line["id"] for line in clean.api.all()] == [job]


def test_half_closed_clients_are_served_or_dropped(clean: Served) -> None:
    with clean.connect() as whole, clean.connect() as half, clean.connect() as nothing:
        whole.sendall(request("GET", "/ping"))
        half.sendall(request("GET", "/ping")[:-10])
        for connection in (whole, half, nothing):
            connection.shutdown(socket.SHUT_WR)
        assert answer_of(b"".join(received(whole))).status == 200
        assert b"".join(received(half)) == b""
        assert b"".join(received(nothing)) == b""
    assert clean.metric("jobsup_connections") == 1


def test_half_closed_follower_has_all_and_a_gone_one_is_dropped(clean: Served) -> None:
    job = clean.shell("echo begin; sleep 1000")
    ask = request("GET", f"/jobs/{job}/out?follow=1")
    with clean.connect() as stays, clean.connect() as goes:
        for connection in (stays, goes):
            connection.sendall(ask)
            connection.shutdown(socket.SHUT_WR)
            assert b"200 OK" in connection.recv(4096)
        goes.close()
        while clean.metric("jobsup_followers") > 1:
            pass
        clean.api.stop(job)
        assert b"".join(received(stays)).endswith(b"0\r\n\r\n")


def test_a_thousand_idle_connections_cost_nothing_and_keep_nobody_out(clean: Served) -> None:
    job = clean.shell("sleep 1000")
    before, descriptors = clean.resident(), clean.descriptors()
    with ExitStack() as stack:
        for _ in range(IDLE):
            connection = stack.enter_context(clean.connect())
            connection.sendall(request("GET", "/ping"))
            assert one_answer(connection).status == 200
        assert clean.metric("jobsup_connections") == IDLE + 1
        wait_resting(clean.pid, seconds=3)
        cost = (clean.resident() - before) / IDLE
        print(f"\n{IDLE} idle connections: never woken in 3 s, {cost:.1f} KiB each")
        assert clean.ask("GET", "/jobs", uid=SOMEBODY).status == 200
        assert clean.api.status(job)["state"] in ("starting", "running")
        assert clean.submit(["true"])
    while clean.metric("jobsup_connections") > 1:
        pass
    clean.until_few_descriptors(descriptors + 5)


def test_one_user_cannot_lock_others_out_and_nobody_root(open_daemon: Opener) -> None:
    # A quarter of its descriptors are for connections: 100.
    daemon = open_daemon(descriptors=400)
    with ExitStack() as stack:

        def fill(uid: int) -> int:
            taken = 0
            while True:
                connection = stack.enter_context(daemon.connect(uid))
                with suppress(BrokenPipeError):  # it was sent away already
                    connection.sendall(request("GET", "/ping"))
                answer = one_answer(connection)
                if answer.status != 200:
                    assert (answer.status, answer.code) == (503, "overloaded")
                    return taken
                taken += 1

        # Half of all for one owner, all but a tenth for all but root.
        assert (fill(SOMEBODY), fill(SOMEBODY_ELSE), fill(0)) == (50, 40, 10)
        stack.close()
    job = daemon.submit(["true"], uid=SOMEBODY)
    assert daemon.api.wait(job)["state"] == "completed"


@pytest.mark.parametrize("spare", [0, 2])
def test_without_descriptors_jobs_go_on_and_the_daemon_recovers(clean: Served, spare: int) -> None:
    daemon = clean
    living = daemon.shell("sleep 1000")
    ending = daemon.shell("trap 'exit 0' USR1; sleep 1000 & echo up; head -c 99997 /dev/zero; wait")
    assert next(daemon.api.pieces(ending, stream="stdout", follow=True)).startswith(b"up\n")
    shell = min(Leaf.of(ending).processes())
    (init,) = (pid for pid in inits() if shell in children(pid))
    end = os.pidfd_open(init)
    while daemon.metric("jobsup_connections") > 1:
        pass
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with daemon.connect() as kept, few_descriptors(daemon, kept, spare):
        # Nothing is forgotten, nothing half done; and what is refused is refused as an error.
        answer = ask(kept, "POST", "/jobs/run", {"argv": ["sleep", "1001"], "cwd": "/"})
        assert (answer.status, answer.code) in REFUSED
        assert ask(kept, "GET", f"/jobs/{living}").status in (200, 503)
        assert ask(kept, "PUT", f"/jobs/{living}/pause").said["state"] == "paused"
        for _ in range(0 if spare else 5):
            with daemon.connect() as refused:
                assert answer_of(b"".join(received(refused))).code == "overloaded"
        # The job ends meanwhile, and the daemon does not turn round and round.
        os.kill(shell, signal.SIGUSR1)
        wait_ended(end)
        os.close(end)
        time.sleep(1)
        spent = daemon.ticks()
        time.sleep(3)
        assert daemon.ticks() - spent <= 2
    assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == limits
    assert daemon.api.wait(ending)["state"] == "completed"
    assert daemon.output(ending) == b"up\n" + bytes(99_997)
    assert daemon.api.status(living)["state"] == "paused"
    assert len(daemon.api.all()) == 2
    assert daemon.api.wait(daemon.submit(["true"]))["state"] == "completed"


REFUSED = {(503, "overloaded"), (503, "launch-failed"), (507, "storage-full")}


def ask(connection: socket.socket, method: str, path: str, body: object = None) -> Answer:
    connection.sendall(request(method, path, body))
    return one_answer(connection)


@contextmanager
def few_descriptors(daemon: Served, kept: socket.socket, spare: int) -> Iterator[None]:
    """Its clients have all that it may have, but for so many; one of them is `kept`."""
    ask(kept, "GET", "/ping")
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    used = {int(number) for number in os.listdir(f"/proc/{daemon.pid}/fd")}
    holes = max(used) + 1 - len(used)
    with ExitStack() as stack:
        idle = [stack.enter_context(daemon.connect()) for _ in range(holes)]
        for connection in idle:
            ask(connection, "GET", "/ping")
        few = daemon.lowest_free(spare)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)


def test_jobs_leave_descriptors_to_those_who_stop_them(open_daemon: Opener) -> None:
    """Each live job has some of the daemon's; what is beyond half of all waits for its place."""
    daemon = open_daemon(descriptors=180)
    jobs = [daemon.submit(["sleep", "1000"]) for _ in range(60)]
    while len(daemon.api.all("starting")):
        pass
    states = Counter(line["state"] for line in daemon.api.all())
    print(f"\n180 descriptors: {dict(states)}, {daemon.descriptors()} are open")
    assert states == {"running": 30, "queued": 30}
    daemon.kill()
    daemon.start()
    while daemon.api.all("starting"):
        pass  # their inits are to say that they run
    assert Counter(line["state"] for line in daemon.api.all()) == states
    with ExitStack() as stack:
        for _ in range(35):
            ask(stack.enter_context(daemon.connect()), "GET", "/ping")
        for job in jobs[:30]:
            daemon.api.stop(job)
        for job in jobs[:30]:
            assert daemon.api.wait(job)["state"] == "stopped"
    while len(daemon.api.all("running")) < 30:
        pass
