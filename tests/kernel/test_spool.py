"""A kept job: its init alone keeps the output, says when it came, and records the end."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsup.isolation import (
    DEFAULT_ROOT_CAPABILITIES,
    EndedBy,
    ExitRecord,
    Files,
    Identity,
    Job,
    Knob,
    Limits,
    Program,
    Streams,
    Walls,
    Watch,
    WhenFull,
    launch,
)
from jobsup.isolation.record import decode

INDEX = struct.Struct("=2I2Q")
STDOUT, STDERR = 1, 2
LIMITS = Limits((Knob("pids.max", "64", "pids"),))


def walls(script: str, watch: Watch | None = None) -> Walls:
    path = ((b"PATH", b"/usr/bin:/bin"),)
    return Walls(
        program=Program((b"sh", b"-c", script.encode()), (b"/bin/sh",), path),
        identity=Identity(0, 0, (), DEFAULT_ROOT_CAPABILITIES),
        files=Files(cwd=b"/"),
        watch=watch or Watch(),
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def end_of(job: Job) -> ExitRecord:
    while job.receive() is not None:
        pass
    record = job.conclude()
    assert record is not None
    return record


def index(directory: Path) -> list[tuple[int, int, int, int]]:
    return list(INDEX.iter_unpack((directory / "output.index").read_bytes()))


def stored(directory: Path) -> ExitRecord:
    return decode((directory / "exit").read_bytes())


def test_output_is_in_the_spool_with_an_index_that_accounts_for_every_byte(
    tmp_path: Path, spool: int
) -> None:
    script = (
        "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done; head -c 300000 /dev/zero"
    )
    record = end_of(launch(walls(script), LIMITS, "spool1", Streams(spool=spool)))
    out, err = ((tmp_path / name).read_bytes() for name in ("stdout", "stderr"))
    assert out == b"out 1\nout 2\nout 3\n" + bytes(300_000)
    assert err == b"err 1\nerr 2\nerr 3\n"
    assert (record.stdout_bytes, record.stderr_bytes) == (len(out), len(err))
    for stream, content in ((STDOUT, out), (STDERR, err)):
        position = 0
        for _, length, offset, _ in (entry for entry in index(tmp_path) if entry[0] == stream):
            assert offset == position
            position += length
        assert position == len(content)


def test_the_index_tells_the_order_of_both_streams(tmp_path: Path, spool: int) -> None:
    script = "echo a; sleep 0.2; echo b >&2; sleep 0.2; echo c"
    end_of(launch(walls(script), LIMITS, "spool2", Streams(spool=spool)))
    entries = index(tmp_path)
    assert [stream for stream, *_ in entries] == [STDOUT, STDERR, STDOUT]
    times = [entry[3] for entry in entries]
    assert times == sorted(times)
    assert times[2] - times[0] >= 300_000_000


def test_the_exit_record_on_disk_is_the_one_that_was_sent(tmp_path: Path, spool: int) -> None:
    record = end_of(launch(walls("exit 7"), LIMITS, "spool3", Streams(spool=spool)))
    assert stored(tmp_path) == record
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 7
    assert not (tmp_path / "exit.new").exists()
    assert (tmp_path / "exit").stat().st_mode & 0o077 == 0


def test_a_kept_job_goes_on_without_its_starter_and_records_its_end(
    tmp_path: Path, spool: int
) -> None:
    script = "sleep 0.5; echo still here; exit 3"
    job = launch(walls(script), LIMITS, "spool4", Streams(spool=spool), outlive=True)
    assert job.pid
    assert job._control
    pidfd = os.pidfd_open(job.pid)
    job._control.close()  # what the kernel does when the starter is killed
    assert select.select([pidfd], [], [], 20)[0], "the init has ended"
    os.close(pidfd)
    job.conclude()
    assert (tmp_path / "stdout").read_bytes() == b"still here\n"
    record = stored(tmp_path)
    assert record.ended_by is EndedBy.NOTHING
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 3


def test_a_kept_jobs_time_limit_holds_without_its_starter(tmp_path: Path, spool: int) -> None:
    watch = Watch(wall_ms=500, grace_ms=200)
    script = "trap '' TERM; while :; do sleep 1; done"
    job = launch(walls(script, watch), LIMITS, "spool5", Streams(spool=spool), outlive=True)
    assert job.pid
    assert job._control
    pidfd = os.pidfd_open(job.pid)
    job._control.close()
    assert select.select([pidfd], [], [], 20)[0], "the init has ended"
    os.close(pidfd)
    job.conclude()
    assert stored(tmp_path).ended_by is EndedBy.WALL_TIME


def test_the_cap_counts_what_was_dropped(tmp_path: Path, spool: int) -> None:
    watch = Watch(output_max=1000, when_full=WhenFull.DROP)
    script = "head -c 5000 /dev/zero; exit 4"
    record = end_of(launch(walls(script, watch), LIMITS, "spool6", Streams(spool=spool)))
    assert (record.stdout_bytes, record.lost_bytes) == (1000, 4000)
    assert (tmp_path / "stdout").stat().st_size == 1000
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 4


def test_a_full_disk_costs_bytes_and_says_how_many(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    assert os.system(f"mount -t tmpfs -o size=64k tmpfs {small}") == 0
    try:
        descriptor = os.open(small, os.O_RDONLY | os.O_DIRECTORY)
        script = "head -c 500000 /dev/zero; echo done >&2; exit 5"
        record = end_of(launch(walls(script), LIMITS, "spool7", Streams(spool=descriptor)))
        os.close(descriptor)
        assert record.lost_bytes > 0
        assert record.stdout_bytes + record.stderr_bytes + record.lost_bytes == 500_005
        assert os.waitstatus_to_exitcode(record.wait_status or 0) == 5
        assert (small / "stdout").stat().st_size == record.stdout_bytes
    finally:
        assert os.system(f"umount {small}") == 0


def test_stop_waits_its_grace_and_no_longer(tmp_path: Path, spool: int) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    job = launch(walls(script), LIMITS, "spool8", Streams(spool=spool))
    while not (tmp_path / "stdout").exists() or not (tmp_path / "stdout").stat().st_size:
        time.sleep(0.01)
    job.stop(15, 300)
    record = end_of(job)
    assert record.ended_by is EndedBy.STOP
    assert os.WTERMSIG(record.wait_status or 0) == 9
    assert record.wall_ns >= 300_000_000


def test_stop_of_a_job_that_obeys_keeps_its_own_end(tmp_path: Path, spool: int) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    job = launch(walls(script), LIMITS, "spool9", Streams(spool=spool))
    while not (tmp_path / "stdout").exists() or not (tmp_path / "stdout").stat().st_size:
        time.sleep(0.01)
    job.stop(15, 20_000)
    record = end_of(job)
    assert record.ended_by is EndedBy.STOP
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 0
    assert (tmp_path / "stdout").read_bytes() == b"ready\nbye\n"
