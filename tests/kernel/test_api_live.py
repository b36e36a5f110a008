"""The daemon's socket with real jobs behind it: what only a kernel can show."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.kernel.resting import wait_resting
from tests.kernel.serving import Daemon, serving
from tests.machine import JOBSUP, PATIENCE
from tests.unit.pretended import Answer, UnixConnection, everything

X20M = hashlib.sha256(b"x" * 20_000_000).digest()
RESIDENT_KIB = 45 << 10


@pytest.fixture(scope="module")
def serves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("live") / "state") as daemon:
        yield daemon


@pytest.fixture
def daemon(serves: Daemon) -> Iterator[Daemon]:
    """Whatever a test leaves in it, also one that failed, ends with the test."""
    yield serves
    for job in call(serves, "GET", "/jobs?limit=1000").json["jobs"]:
        assert call(serves, "DELETE", f"/jobs/{job['id']}?force").status == 200


def call(daemon: Daemon, method: str, path: str, body: object = None) -> Answer:
    connection = UnixConnection(daemon.socket)
    connection.timeout = PATIENCE
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def started(daemon: Daemon, *argv: str, **options: object) -> str:
    answer = call(daemon, "POST", "/jobs/run", {"argv": list(argv), **options})
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def test_a_jobs_whole_output_is_followed(daemon: Daemon) -> None:
    flood = "head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2; exit 3"
    job = started(daemon, "sh", "-c", flood)
    both = call(daemon, "GET", f"/jobs/{job}/out?follow").body
    # Two pipes: what was written to one may be read before what came to the other earlier.
    assert len(both) == 20_000_004
    assert hashlib.sha256(both.replace(b"end\n", b"", 1)).digest() == X20M
    assert call(daemon, "GET", f"/jobs/{job}/out?stream=stderr").body == b"end\n"
    verdict = call(daemon, "GET", f"/jobs/{job}/wait").json["verdict"]
    assert (verdict["exit_code"], verdict["state"]) == (3, "failed")


def test_the_daemon_is_small_and_idle(daemon: Daemon) -> None:
    for _ in range(20):
        started(daemon, "sleep", "1000")
    with ExitStack() as rests:
        for _ in range(50):
            connection = rests.enter_context(closing(UnixConnection(daemon.socket)))
            connection.timeout = PATIENCE
            connection.request("GET", "/ping")
            assert connection.getresponse().read()
        wait_resting(daemon.process.pid, seconds=3)
        memory = _status(daemon.process.pid)
    kib = {name: int(memory[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssFile")}
    print(kib)
    assert kib["VmRSS"] < RESIDENT_KIB, kib


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}


def test_the_process_is_what_it_promises(daemon: Daemon) -> None:
    pid = daemon.process.pid
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-900\n"
    assert _status(pid)["Umask"] == "0077"
    assert "ready" in daemon.log.read_text()


def test_a_second_daemon_names_the_first(daemon: Daemon) -> None:
    command = [*JOBSUP, "serve", "--state", str(daemon.state), "--socket", str(daemon.socket)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert second.returncode == 125
    assert str(daemon.process.pid) in second.stderr
    assert call(daemon, "GET", "/ping").status == 200


def test_a_foreground_job_writes_to_its_caller_and_ends_with_it(daemon: Daemon) -> None:
    body = json.dumps({"argv": ["sh", "-c", "cat; echo done; sleep 1000"]}).encode()
    out, stdin, lifeline = os.pipe(), os.pipe(), os.pipe()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(daemon.socket))
        client.sendall(
            b"POST /jobs/run HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: jobsup-run\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        socket.send_fds(client, [b"x"], [stdin[0], out[1], out[1], lifeline[0]])
        job = json.loads(everything(client))["id"]
    for descriptor in (stdin[0], out[1], lifeline[0]):
        os.close(descriptor)
    os.write(stdin[1], b"typed\n")
    os.close(stdin[1])
    told = b""
    while not told.endswith(b"done\n"):
        told += os.read(out[0], 100)
    assert told == b"typed\ndone\n"
    os.close(lifeline[1])
    assert call(daemon, "GET", f"/jobs/{job}/wait").json["verdict"]["cause"] in (
        "stopped",
        "killed",
    )
    os.close(out[0])


def test_followers_are_cut_off_and_jobs_go_on_when_it_ends(daemon: Daemon) -> None:
    job = started(daemon, "sh", "-c", "echo begun; sleep 3; echo over")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(daemon.socket))
        client.sendall(f"GET /jobs/{job}/out?follow HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        told = b""
        while b"begun\n" not in told:
            told += client.recv(1000)
        daemon.process.send_signal(signal.SIGTERM)
        told += everything(client)
        assert daemon.process.wait(PATIENCE) == 0
    assert not told.endswith(b"0\r\n\r\n")
    daemon.start()
    assert call(daemon, "GET", f"/jobs/{job}/out?follow&offset=6").body == b"over\n"
