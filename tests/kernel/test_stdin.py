"""Our stdin reaches the job, byte for byte, through a pipe of ours, and never holds up its end."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import select
import signal
import subprocess
from pathlib import Path

import pytest

import jobsup
from tests.kernel.jobs import Jobs, run_here
from tests.kernel.resting import wait_resting
from tests.machine import PATIENCE, Leaf

SHA256 = ["sha256sum"]
BYTES = random.Random(6).randbytes(3_000_001)
DIGEST = hashlib.sha256(BYTES).hexdigest()


def test_a_pipe_byte_for_byte(jobs: Jobs) -> None:
    ended = jobs.run(SHA256, input=BYTES)
    assert ended.stdout.decode().split()[0] == DIGEST


def test_a_pipe_whose_bytes_come_late_and_little(jobs: Jobs) -> None:
    running = jobs.start(["cat"], stdin=subprocess.PIPE)
    for line in ("one\n", "two\n", "three\n"):
        running.stdin.write(line.encode())
        assert running.line() == line.strip()  # the answer is here before the next is said
    running.stdin.close()
    assert running.process.wait(PATIENCE) == 0


def test_a_file_byte_for_byte_from_where_it_stands(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"before" + BYTES)
    with (tmp_path / "in").open("rb", buffering=0) as file:
        file.seek(6)
        ended = jobs.start(SHA256, stdin=file).end()
    assert ended.stdout.decode().split()[0] == DIGEST


def test_an_empty_stdin_is_an_end_at_once(jobs: Jobs) -> None:
    assert jobs.start(["wc", "-c"]).end().stdout == b"0\n"


def test_a_closed_stdin_is_an_empty_one(jobs: Jobs) -> None:
    running = jobs.start(["wc", "-c"], preexec=lambda: os.close(0))
    assert running.end().stdout == b"0\n"


def test_a_directory_as_stdin_is_an_empty_one(tmp_path: Path) -> None:
    """In the library: as a command's own stdin, Python itself refuses it."""
    directory = os.open(tmp_path, os.O_RDONLY)
    ended = jobsup.run(["wc", "-c"], stdin=directory, capture_output=True, cwd="/")
    assert ended.stdout == b"0\n"
    os.close(directory)


def test_a_terminal_line_by_line_until_its_end_of_file(jobs: Jobs) -> None:
    ours, theirs = pty.openpty()
    running = jobs.start(["sh", "-c", "[ -t 0 ] || echo pipe; cat"], stdin=theirs)
    os.close(theirs)
    assert running.line() == "pipe"
    os.write(ours, b"typed\n")
    assert running.line() == "typed"
    os.write(ours, b"\x04")
    assert running.end().status == 0
    os.close(ours)


def test_a_terminal_that_hangs_up_is_an_end(jobs: Jobs) -> None:
    ours, theirs = pty.openpty()
    running = jobs.start(["sh", "-c", "echo ready; exec cat"], stdin=theirs)
    os.close(theirs)
    assert running.line() == "ready"
    os.close(ours)
    assert running.end().status == 0


def test_a_stdin_that_never_ends_does_not_hold_up_the_end(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo ready; exit 9"], stdin=subprocess.PIPE)
    assert running.process.wait(PATIENCE) == 9
    assert running.stdout.read() == b"ready\n"


def test_an_endless_stdin_does_not_hold_up_the_end(jobs: Jobs) -> None:
    with open("/dev/zero", "rb", buffering=0) as zero:
        ended = jobs.start(["head", "-c", "1000000"], stdin=zero).end()
    assert (ended.status, ended.stdout, ended.stderr) == (0, bytes(1_000_000), b"")


@pytest.mark.parametrize("script", ["exec <&-; echo closed; sleep 0.2", "head -c 5; exit 0"])
def test_a_job_that_takes_no_more_than_it_wants_ends_well(jobs: Jobs, script: str) -> None:
    ended = jobs.run(["sh", "-c", script], input=BYTES)
    assert (ended.status, ended.stderr) == (0, b"")


@pytest.mark.parametrize("stdin", ["<&-", ""], ids=["closed", "open"])
def test_whoever_waits_for_a_silent_job_and_a_silent_stdin_uses_no_processor(
    jobs: Jobs, stdin: str
) -> None:
    """Also when the job has closed its end, which poll(2) tells again and again."""
    script = f"exec {stdin}; echo ready; sleep 1000"
    running = jobs.start(["sh", "-c", script], stdin=subprocess.PIPE)
    assert running.line() == "ready"
    wait_resting(running.process.pid, running.init)
    running.process.terminate()
    assert running.process.wait(PATIENCE) == 143


def test_a_job_that_does_not_read_holds_up_who_writes(jobs: Jobs) -> None:
    """Back-pressure: of an endless input only what fits into two pipes is taken."""
    script = "echo ready; kill -STOP $$; exec tail -c 4 >&2"
    running = jobs.start(["sh", "-c", script], stdin=subprocess.PIPE)
    assert running.line() == "ready"
    os.set_blocking(running.stdin.fileno(), False)
    taken = 0
    while select.select([], [running.stdin], [], 0.5)[1]:
        taken += os.write(running.stdin.fileno(), b"." * 4096)
    assert taken <= 4 * 65536
    os.set_blocking(running.stdin.fileno(), True)
    for pid in Leaf.only().processes():
        os.kill(pid, signal.SIGCONT)
    running.stdin.write(b"rest")
    running.stdin.close()
    assert running.process.stderr is not None
    assert running.process.stderr.read() == b"rest"
    assert running.process.wait(PATIENCE) == 0


def test_in_and_out_at_once(jobs: Jobs) -> None:
    """More than all pipes hold, so that neither direction may wait for the other."""
    ended = jobs.run(["cat"], input=BYTES)
    assert hashlib.sha256(ended.stdout).hexdigest() == DIGEST


def test_bytes_of_the_library(jobs: Jobs) -> None:
    _, stdout, _ = run_here(SHA256, input=BYTES)
    assert stdout.decode().split()[0] == DIGEST


@pytest.mark.parametrize("access", ["r", "r+"])
def test_a_file_on_stdin_is_not_the_jobs(jobs: Jobs, tmp_path: Path, access: str) -> None:
    """The job has a pipe of ours: it can neither write the file nor move in it."""
    (tmp_path / "in").write_bytes(b"content\n")
    with (tmp_path / "in").open(access) as file:
        script = "readlink /proc/self/fd/0; echo written > /proc/self/fd/0"
        ended = jobs.start(["sh", "-c", script], stdin=file).end()
    assert ended.stdout.startswith(b"pipe:[")
    assert (tmp_path / "in").read_bytes() == b"content\n"
