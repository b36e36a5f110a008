"""The threads of an init run at the very same time: output is whole, counted and nobody's copy.

Floods of both streams, to readers and into spools, under caps, and amid stops, kills and losses.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jobsup.isolation import ExitRecord, Streams, Watch, WhenFull, launch
from tests.kernel.jobs import Here, here, program, run_here
from tests.kernel.kept import LIMITS, end_of, walls
from tests.machine import PATIENCE, Leaf, inits, kill, leaves, wait_no_inits
from tests.programs.output_flood import block

INDEX = struct.Struct("=2I2Q")
ENDLESS = ["sh", "-c", "yes & yes >&2 & wait"]


def _flood(stdout: int, stderr: int) -> str:
    """Both streams at once, by as many processes."""
    return f"head -c {stdout} /dev/zero & head -c {stderr} /dev/zero >&2; wait; exit 3"


def _expected(seed: int, stream: int, size: int) -> bytes:
    blocks = (size >> 20) + 1
    return b"".join(block(seed, stream, number) for number in range(blocks))[:size]


def _stored(directory: Path) -> tuple[bytes, bytes]:
    return (directory / "stdout").read_bytes(), (directory / "stderr").read_bytes()


def _kept(directory: Path, script: str, watch: Watch | None = None) -> ExitRecord:
    """A job whose init keeps its output, from start to end."""
    spool = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return end_of(launch(walls(script, watch), LIMITS, "kept", Streams(spool=spool)))
    finally:
        os.close(spool)


def _account_for(directory: Path) -> None:
    """The index names every byte of both files once, in the order of each."""
    entries = list(INDEX.iter_unpack((directory / "output.index").read_bytes()))
    for stream, content in enumerate(_stored(directory), 1):
        position = 0
        for _, length, offset, _ in (entry for entry in entries if entry[0] == stream):
            assert offset == position
            position += length
        assert position == len(content)


# ---- everything arrives


def test_two_floods_at_once_arrive_whole() -> None:
    sizes = 6_000_011, 5_000_003
    verdict, stdout, stderr = run_here(program("output_flood", *sizes, 7))
    assert stdout == _expected(7, 1, sizes[0])
    assert stderr == _expected(7, 2, sizes[1])
    assert verdict.output["lost_bytes"] == 0


def test_two_floods_into_a_spool_arrive_whole_and_are_all_in_the_index(tmp_path: Path) -> None:
    sizes = 6_000_011, 5_000_003
    command = " ".join(program("output_flood", *sizes, 8))
    record = _kept(tmp_path, f"exec {command}")
    assert _stored(tmp_path) == (_expected(8, 1, sizes[0]), _expected(8, 2, sizes[1]))
    assert (record.stdout_bytes, record.stderr_bytes, record.lost_bytes) == (*sizes, 0)
    _account_for(tmp_path)


def test_lines_of_two_writers_into_one_stream_stay_whole_and_in_order() -> None:
    """A write of up to PIPE_BUF bytes is one piece, pipe(7)."""
    script = "seq -f a%g 20000 & seq -f b%g 20000 >&2; wait"
    _, stdout, stderr = run_here(["stdbuf", "-oL", "sh", "-c", script], merge=True)
    assert stderr == b""
    lines = stdout.decode().splitlines()
    for writer in "ab":
        numbers = [int(line[1:]) for line in lines if line[0] == writer]
        assert numbers == list(range(1, 20001))
    assert len(lines) == 40000


def test_quick_jobs_launched_at_once() -> None:
    """From threads of one program, on all processors."""
    wrong: list[object] = []

    def one_after_another(first: int) -> None:
        for number in range(first, first + 30):
            script = f"echo out {number}; echo err {number} >&2; exit {number}"
            verdict, stdout, stderr = run_here(["sh", "-c", script])
            seen = verdict.exit_code, stdout, stderr
            if seen != (number, b"out %d\n" % number, b"err %d\n" % number):
                wrong.append((number, seen, verdict))

    at_work = [threading.Thread(target=one_after_another, args=(n * 30,)) for n in range(4)]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join()
    assert wrong == []


# ---- the cap, which both threads share


@pytest.mark.parametrize("cap", [1, 100_003])
def test_two_streams_share_a_cap_to_the_byte(cap: int) -> None:
    for _ in range(10):
        verdict, stdout, stderr = run_here(["sh", "-c", _flood(300_000, 250_000)], output_max=cap)
        assert (verdict.cause, verdict.exit_code) == ("exited", 3)
        assert len(stdout) + len(stderr) == cap
        assert verdict.output["lost_bytes"] == 550_000 - cap


def test_two_streams_of_a_spool_share_a_cap_to_the_byte(tmp_path: Path) -> None:
    for turn in range(10):
        directory = tmp_path / str(turn)
        directory.mkdir()
        watch = Watch(output_max=100_003, when_full=WhenFull.DROP)
        record = _kept(directory, _flood(300_000, 250_000), watch)
        assert sum(map(len, _stored(directory))) == 100_003
        assert record.stdout_bytes + record.stderr_bytes == 100_003
        assert record.lost_bytes == 550_000 - 100_003
        _account_for(directory)


def test_two_streams_end_their_job_at_a_shared_cap() -> None:
    for _ in range(8):
        verdict, stdout, stderr = run_here(ENDLESS, output_max=100_003, output_full="kill")
        assert verdict.cause == "output"
        assert len(stdout) + len(stderr) == 100_003


def test_two_streams_stop_at_a_shared_cap() -> None:
    for _ in range(8):
        with here(ENDLESS, output_max=100_003, output_full="block") as job:
            sources = [capture._source for capture in job.captures]
            got = 0
            while got < 100_003:
                there, _, _ = select.select(sources, [], [], PATIENCE)
                assert there, f"it stops at {got}"
                got += sum(len(os.read(source, 65536)) for source in there)
            assert select.select(sources, [], [], 0.1)[0] == [], "it goes on"
            job.handle.kill()
            verdict, *rest = job.end()
        assert (verdict.cause, rest) == ("killed", [b"", b""])
        assert got == 100_003


# ---- the end amid a flood


def _kill(job: Here) -> None:
    job.handle.kill()


def _stop(job: Here) -> None:
    job.handle.stop(15, 3_600_000)


def _lose(job: Here) -> None:
    for pid in inits():
        with suppress(ProcessLookupError):
            kill(pid)


@pytest.mark.parametrize(("end", "cause"), [(_kill, "killed"), (_stop, "stopped")])
def test_what_was_written_before_an_end_is_all_there(
    end: Callable[[Here], None], cause: str
) -> None:
    moments = random.Random(cause)
    for _ in range(15):
        with here(ENDLESS) as job:
            job.wait_started()
            threading.Timer(moments.uniform(0, 0.1), end, [job]).start()
            verdict, *streams = job.end()
        assert verdict.cause == cause
        assert verdict.output["lost_bytes"] == 0
        told = [verdict.output["stdout_bytes"], verdict.output["stderr_bytes"]]
        assert [len(stream) for stream in streams] == told
        for stream in streams:
            assert stream == (b"y\n" * (len(stream) // 2 + 1))[: len(stream)]


def test_an_init_that_is_killed_amid_a_flood_leaves_nothing() -> None:
    moments = random.Random("lost")
    for _ in range(15):
        with here(ENDLESS) as job:
            time.sleep(moments.uniform(0, 0.1))
            _lose(job)
            verdict, *_ = job.end()
        assert verdict.cause == "init-lost"
        wait_no_inits()
        assert leaves() == set()


def _waiting(descriptor: int) -> int:
    """Bytes in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0])


def _wait_all_ended(leaf: Leaf) -> None:
    with (leaf.path / "cgroup.events").open("rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 256, 0):
            assert poll.poll(PATIENCE * 1000), "the job goes on"


def _give_up(job: Here) -> None:
    """A kill that comes before the init has seen the job's end is one of the job, not of its
    output, so one is not enough."""
    said: object = job.handle
    while not (said is None or isinstance(said, ExitRecord)):
        if select.select([job.handle.fileno()], [], [], 0.1)[0]:
            said = job.handle.receive()
        else:
            job.handle.kill()


def test_of_output_that_is_given_up_every_byte_is_counted() -> None:
    """The job has ended, its pipes and ours are full, and nobody reads."""
    for _ in range(10):
        with here(["sh", "-c", _flood(100_000, 100_000)]) as job:
            job.wait_started()
            kept = [os.dup(capture._source) for capture in job.captures]
            for capture in job.captures:
                capture.close()
            _wait_all_ended(Leaf.of(job.id))
            _give_up(job)
            verdict, *_ = job.end()
            assert verdict.cause == "exited", verdict
            told = verdict.output
            counts = [_waiting(pipe) for pipe in kept]
            assert counts == [told["stdout_bytes"], told["stderr_bytes"]]
            assert told["lost_bytes"] == 200_000 - sum(counts) > 0
            for pipe in kept:
                os.close(pipe)
