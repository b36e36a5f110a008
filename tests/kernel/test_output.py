"""No byte of output is lost, changed or reordered within its stream, whoever reads it, and how."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.jobs import Jobs, program, run_here
from tests.machine import JOBSUP, PATIENCE, Leaf
from tests.programs.output_flood import BLOCK, block

GIB = 1 << 30
MIB = 1 << 20


def _flood(seed: int, stream: int, size: int) -> Iterator[memoryview]:
    number = 0
    while size > 0:
        data = memoryview(block(seed, stream, number))[:size]
        yield data
        size -= len(data)
        number += 1


def _sha256(seed: int, stream: int, size: int) -> str:
    digest = hashlib.sha256()
    for data in _flood(seed, stream, size):
        digest.update(data)
    return digest.hexdigest()


def _peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


class Hashed(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self._source = source
        self.start()

    def run(self) -> None:
        while data := os.read(self._source, MIB):
            self.digest.update(data)


def test_a_gibibyte_on_stdout_beside_a_second_stream_in_bounded_memory(jobs: Jobs) -> None:
    stderr_size = 64 * MIB
    running = jobs.start(program("output_flood", GIB, stderr_size, 1))
    assert running.process.stderr is not None
    stderr = Hashed(running.process.stderr.fileno())
    digest, peaks = hashlib.sha256(), []
    for at in range(0, GIB, 128 * MIB):
        left = 128 * MIB
        while left:
            data = os.read(running.stdout.fileno(), min(left, MIB))
            assert data, f"the output ends within {at} and {at + 128 * MIB}"
            digest.update(data)
            left -= len(data)
        if at + left < GIB - 128 * MIB:  # after the last byte both may be gone
            peaks.append((_peak(running.process.pid), _peak(running.init)))
    stderr.join()
    assert running.process.wait(PATIENCE) == 0
    assert digest.hexdigest() == _sha256(1, 1, GIB)
    assert stderr.digest.hexdigest() == _sha256(1, 2, stderr_size)
    callers, inits = zip(*peaks, strict=True)
    assert callers[-1] - callers[0] < MIB
    assert max(inits) < 4 * MIB


def test_a_slow_reader_slows_the_job_and_loses_nothing(jobs: Jobs) -> None:
    """While nobody reads, the job can write what fits into its pipe and into ours."""
    running = jobs.start(program("pipe_filler"))
    assert running.process.stderr is not None
    written = int(running.process.stderr.readline())
    assert written <= 4 * 65536
    stdout = running.end().stdout
    assert stdout == b"".join(b"%07d\n" % (at * 512) * 512 for at in range(written // 4096))


def test_a_reader_that_takes_a_little_at_a_time_gets_all_of_it(jobs: Jobs) -> None:
    running = jobs.start(program("output_flood", 2 * MIB, 0, 2))
    digest, sizes = hashlib.sha256(), [1, 7, 4096, 65537, 100_000]
    while data := os.read(running.stdout.fileno(), sizes[0]):
        digest.update(data)
        sizes.append(sizes.pop(0))
    assert digest.hexdigest() == _sha256(2, 1, 2 * MIB)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_of_an_ended_job_the_output_that_nobody_takes_can_be_given_up(
    jobs: Jobs, number: int
) -> None:
    """Nothing is dropped unasked: without the signal the run waits for its reader."""
    running = jobs.start(["yes"], time="1s")
    assert select.select([running.stdout], [], [], PATIENCE)[0]
    leaf = Leaf.only()
    while "populated 1" in leaf.read("cgroup.events"):
        assert running.process.poll() is None
    running.signal(signal.SIGWINCH)  # which says nothing about the output
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.5)
    running.signal(number)
    running.process.wait(PATIENCE)  # before anybody takes anything: what is read makes room
    ended = running.end()
    assert (ended.status, ended.cause) == (124, "timeout")
    output = ended.verdict["output"]
    assert ended.stdout == b"y\n" * (output["stdout_bytes"] // 2)
    assert 0 < output["stdout_bytes"] <= 65536
    assert 0 < output["lost_bytes"] <= 65536


def test_when_the_reader_goes_the_job_gets_its_sigpipe(jobs: Jobs) -> None:
    running = jobs.start(["yes"])
    assert running.line() == "y"
    running.stdout.close()
    assert running.process.stderr is not None
    message = running.process.stderr.read()
    assert running.process.wait(PATIENCE) == 141
    assert message == b"", "the caller wanted no more"


def test_yes_into_head_ends(jobs: Jobs) -> None:
    script = '"$@" -- yes | head -n 1'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *JOBSUP, "run", "--quiet", "--cwd", "/"],
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == (b"y\n", b"")


def test_when_one_reader_goes_the_other_stream_goes_on(jobs: Jobs) -> None:
    script = "trap '' PIPE; echo first; read line; echo lost; echo still here >&2; exit 4"
    running = jobs.start(["sh", "-c", script], stdin=subprocess.PIPE)
    assert running.line() == "first"
    running.stdout.close()
    running.stdin.write(b"go\n")
    assert running.process.stderr is not None
    assert b"still here\n" in running.process.stderr.read()
    assert running.process.wait(PATIENCE) == 4


# ---- streams that the job closes, or leaves to others


def test_a_job_may_close_its_output_and_go_on() -> None:
    verdict, stdout, stderr = run_here(
        ["sh", "-c", "echo out; exec >&-; sleep 0.1; echo err >&2; exec 2>&-; sleep 0.1; exit 5"]
    )
    assert (stdout, stderr, verdict.exit_code) == (b"out\n", b"err\n", 5)


@pytest.mark.parametrize("end", ["exit 0", "kill -TERM $$"])
def test_a_child_that_holds_the_pipe_does_not_hold_up_the_end(end: str) -> None:
    verdict, stdout, _ = run_here(["sh", "-c", f"sleep 1000 & echo done; {end}"])
    assert stdout == b"done\n"
    assert verdict.status in {0, 143}


@pytest.mark.parametrize("how", ["quiet", "loud"])
def test_a_daemon_ends_with_the_job_that_started_it(how: str) -> None:
    verdict, stdout, _ = run_here(program("daemon", how))
    assert (verdict.cause, verdict.exit_code, stdout) == ("exited", 0, b"daemon started\n")


def test_what_children_wrote_before_the_end_is_all_there() -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do head -c 8000 /dev/zero & done; wait; printf end"
    _, stdout, _ = run_here(["sh", "-c", script])
    assert stdout == bytes(64_000) + b"end"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537])
def test_any_number_of_bytes_arrives(size: int) -> None:
    verdict, stdout, stderr = run_here(program("output_flood", size, size, 3))
    assert stdout == b"".join(_flood(3, 1, size))
    assert stderr == b"".join(_flood(3, 2, size))
    assert verdict.output == {
        "stdout_bytes": size,
        "stderr_bytes": size,
        "lost_bytes": 0,
        "errno": None,
    }


# ---- where our own output goes


def test_output_to_a_file(jobs: Jobs, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        jobs.start(program("output_flood", 3 * BLOCK, 0, 4), stdout=out).end()
    assert (tmp_path / "out").read_bytes() == b"".join(_flood(4, 1, 3 * BLOCK))


def test_output_appended_to_a_file_with_stderr_in_the_same(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"before\n")
    with (tmp_path / "log").open("ab") as log:
        script = "for i in 1 2 3; do echo out; done; echo err >&2"
        jobs.start(["sh", "-c", script], stdout=log, stderr=log).end()
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "before"
    assert sorted(lines[1:]) == ["err", "out", "out", "out"]


def test_output_to_a_terminal(jobs: Jobs) -> None:
    ours, theirs = pty.openpty()
    running = jobs.start(["sh", "-c", "echo hello; [ -t 1 ] || echo no terminal"], stdout=theirs)
    os.close(theirs)
    seen = b""
    while not seen.endswith(b"no terminal\r\n"):
        seen += os.read(ours, 1024)
    assert seen == b"hello\r\nno terminal\r\n"
    assert running.end().status == 0
    os.close(ours)


def test_output_to_a_pipe_that_somebody_made_non_blocking(jobs: Jobs) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    running = jobs.start(program("output_flood", 4 * MIB, 0, 5), stdout=write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as source:
        assert source.read() == b"".join(_flood(5, 1, 4 * MIB))
    assert running.end().status == 0


def test_output_to_nowhere(jobs: Jobs) -> None:
    """Closed streams must not become those of the files that jobsup opens for itself."""

    def close() -> None:
        for stream in range(3):
            os.close(stream)

    ended = jobs.start(["sh", "-c", "cat; echo out; echo err >&2; exit 6"], preexec=close).end()
    assert (ended.status, ended.stdout, ended.stderr) == (6, b"", b"")
    assert ended.verdict["exit_code"] == 6


def test_a_full_disk_ends_the_stream_and_the_loss_is_told(jobs: Jobs) -> None:
    with open("/dev/full", "wb") as full:
        ended = jobs.start(["yes"], stdout=full).end()
    assert (ended.status, ended.cause) == (141, "signaled")
    assert ended.verdict["output"]["stdout_bytes"] == 0
    assert ended.verdict["output"]["lost_bytes"] > 0


def test_the_callers_descriptors_are_as_they_were(jobs: Jobs) -> None:
    """Flags belong to the open file, which we share with whoever gave it to us."""
    pipes = [os.pipe() for _ in range(3)]
    ends = pipes[0][0], pipes[1][1], pipes[2][1]
    before = [fcntl.fcntl(end, fcntl.F_GETFL) for end in ends]
    os.close(pipes[0][1])
    script = ["sh", "-c", "cat; echo err >&2"]
    jobs.start(script, stdin=ends[0], stdout=ends[1], stderr=ends[2]).end()
    assert [fcntl.fcntl(end, fcntl.F_GETFL) for end in ends] == before
    for end in (*ends, pipes[1][0], pipes[2][0]):
        os.close(end)
