"""A daemon's own life: one for each state, ready and not, ended and begun again."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from tests.daemon.conftest import Opener
from tests.daemon.served import Served, one_answer, request
from tests.machine import JOBSUP, PATIENCE, leaves


def jobsup(daemon: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JOBSUP, *arguments], env=daemon.environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_second_daemon_names_the_first_and_harms_nothing(clean: Served) -> None:
    job = clean.submit(["sleep", "1000"])
    second = subprocess.run(
        clean.command, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert second.returncode == 125
    assert str(clean.pid) in second.stderr
    assert "Traceback" not in second.stderr
    assert clean.api.status(job)["state"] == "running"


def test_a_socket_where_another_daemon_answers_is_not_taken(clean: Served, tmp_path: Path) -> None:
    flags = ["--state", str(tmp_path / "other"), "--socket", str(clean.socket)]
    second = subprocess.run(
        [*JOBSUP, "serve", *flags], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert second.returncode == 125
    assert "Traceback" not in second.stderr
    assert clean.ask("GET", "/ping").said["pid"] == clean.pid


def test_unready_is_kept_and_live_jobs_go_on(open_daemon: Opener) -> None:
    daemon = open_daemon()
    job = daemon.submit(["sleep", "1000"])
    assert jobsup(daemon, "control", "unready").stdout == "unready\n"
    for _ in range(2):
        refused = daemon.ask("POST", "/jobs/run", {"argv": ["true"], "cwd": "/"})
        assert (refused.status, refused.code) == (503, "not-ready")
        assert jobsup(daemon, "run", "--", "true").returncode == 125
        assert daemon.api.status(job)["state"] == "running"
        daemon.kill()
        daemon.start()
    daemon.api.stop(job)
    assert daemon.api.wait(job)["state"] == "stopped"
    assert jobsup(daemon, "control", "ready").stdout == "ready\n"
    assert daemon.api.wait(daemon.submit(["true"]))["state"] == "completed"


def test_terminate_ends_all_and_takes_no_more(open_daemon: Opener) -> None:
    daemon = open_daemon("--max-running", "4")
    graceful = daemon.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    stubborn = daemon.shell("trap '' TERM; while :; do sleep 0.05; done", grace="1s")
    paused, later = daemon.submit(["sleep", "1000"]), daemon.submit(["true"], after="1h")
    daemon.api.call("PUT", f"/jobs/{paused}/pause")
    queued = [daemon.submit(["sleep", "1000"]) for _ in range(3)]
    with daemon.connect() as asking:
        asking.settimeout(PATIENCE)
        asking.sendall(request("PUT", "/control/terminate"))
        refused = daemon.ask("POST", "/jobs/run", {"argv": ["true"], "cwd": "/"})
        while refused.status == 201:  # it came before
            refused = daemon.ask("POST", "/jobs/run", {"argv": ["true"], "cwd": "/"})
        assert refused.code == "not-ready"
        assert one_answer(asking).status == 200
    states = {line["id"]: line["state"] for line in daemon.api.all()}
    known = [graceful, stubborn, paused, later, *queued]
    assert {states[job] for job in known} == {"stopped"}
    assert daemon.output(graceful) == b"up\nbye\n"
    assert leaves() == set()


def test_sigterm_ends_the_daemon_and_not_its_jobs(open_daemon: Opener) -> None:
    daemon = open_daemon()
    job = daemon.shell("echo begin; sleep 1; echo end")
    queued = daemon.submit(["echo", "later"], after="2s")
    with daemon.connect() as follower:
        follower.sendall(request("GET", f"/jobs/{job}/out?follow=1"))
        assert b"200 OK" in follower.recv(4096)
        daemon.end()
        rest = b""
        while data := follower.recv(4096):
            rest += data
        assert not rest.endswith(b"0\r\n\r\n")  # it was cut off, and sees so
    assert not daemon.socket.exists()
    daemon.start()
    assert daemon.output(job) == b"begin\nend\n"
    assert daemon.api.wait(job)["state"] == "completed"
    assert daemon.output(queued) == b"later\n"


def test_every_signal_that_ends_it_ends_it_well(open_daemon: Opener) -> None:
    daemon = open_daemon()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        daemon.end(number)
        daemon.start()


def test_a_dead_daemons_socket_is_replaced(open_daemon: Opener) -> None:
    daemon = open_daemon()
    daemon.kill()
    assert daemon.socket.exists()
    with socket.socket(socket.AF_UNIX) as probe:
        assert probe.connect_ex(str(daemon.socket)) != 0
    refused = jobsup(daemon, "ls")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "Traceback" not in refused.stderr
    daemon.start()
    assert daemon.ask("GET", "/ping").status == 200
