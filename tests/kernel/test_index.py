"""output.index: what came when, for every byte, and never more of it than of output."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.inside import PYTHON
from tests.kernel.jobs import PROGRAMS
from tests.kernel.kept import Keeper, end_of, kept_in, status_of, walls
from tests.kernel.resting import wait_resting

ENTRY = struct.Struct("=2I2Q")
STDOUT, STDERR = 1, 2


def byte_writer(count: int) -> str:
    source = (PROGRAMS / "byte_writer.py").read_text()
    return f"{PYTHON} -ISc '{source}' {count}"


def entries(keeper: Keeper, stream: int) -> list[tuple[int, int, int]]:
    """Length, offset and time of each; the file is whole."""
    data = (keeper.directory / "output.index").read_bytes()
    return [entry[1:] for entry in ENTRY.iter_unpack(data) if entry[0] == stream]


def told(keeper: Keeper, stream: int) -> int:
    """How many bytes the index tells of, without a gap."""
    position = 0
    for length, offset, _ in entries(keeper, stream):
        assert offset == position
        position += length
    return position


def test_single_bytes_do_not_make_an_entry_each(keeper: Keeper) -> None:
    """At most one a millisecond, and what was saved before."""
    count = 20_000
    record = end_of(keeper.launch(walls(byte_writer(count))))
    found = entries(keeper, STDOUT)
    assert record.stdout_bytes == told(keeper, STDOUT) == count
    assert len(found) <= 64 + record.wall_ns / 1e6 + 2
    times = [time for _, _, time in found]
    assert times == sorted(times)


def test_a_burst_is_told_of_while_the_job_goes_on_in_silence(keeper: Keeper) -> None:
    job = keeper.launch(walls(f"{byte_writer(3000)}; exec sleep 1000"))
    status_of(job)
    keeper.wait_output(b"x" * 3000)
    while told(keeper, STDOUT) < 3000:
        pass
    wait_resting(job.pid, seconds=0.3)
    job.kill()
    end_of(job)


def test_a_few_lines_keep_their_places_between_those_of_the_other_stream(keeper: Keeper) -> None:
    script = "for i in 1 2 3 4 5; do echo o; sleep 0.01; echo e >&2; sleep 0.01; done"
    end_of(keeper.launch(walls(script)))
    data = (keeper.directory / "output.index").read_bytes()
    assert [entry[0] for entry in ENTRY.iter_unpack(data)] == [STDOUT, STDERR] * 5


def test_a_second_init_cannot_go_on_in_the_spool_of_a_first(keeper: Keeper) -> None:
    end_of(keeper.launch(walls("echo one")))
    os.unlink(keeper.address)
    record = end_of(keeper.launch(walls("echo two")))
    assert record.wait_status is None
    assert record.failure is not None
    assert record.failure.errno == errno.EEXIST
    assert (keeper.directory / "stdout").read_bytes() == b"one\n"


# ---- a disk that is full


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Keeper]:
    """A spool on a file system of 128 KiB."""
    yield from _mounted(tmp_path, "size=128k")


def _mounted(parent: Path, options: str) -> Iterator[Keeper]:
    directory = parent / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    with kept_in(directory) as keeper:
        yield keeper
    subprocess.run(["umount", directory], check=True)


def test_how_a_job_ended_that_filled_the_disk_is_stored_all_the_same(small: Keeper) -> None:
    record = end_of(small.launch(walls("head -c 500000 /dev/zero; exit 5")))
    assert record.output_errno == errno.ENOSPC
    assert record.lost_bytes + record.stdout_bytes == 500_000
    assert record == small.stored()
    assert told(small, STDOUT) <= (small.directory / "stdout").stat().st_size


def test_the_index_goes_on_when_there_is_room_again(small: Keeper) -> None:
    filler = small.directory / "filler"
    script = "echo first; read x; seq 30000 >&2; echo second; read x; echo third"
    source, feed = os.pipe()
    job = small.launch(walls(script), stdin=source)
    os.close(source)
    status_of(job)
    small.wait_output(b"first\n")
    with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.write(feed, b"\n")
    small.wait_output(b"second\n")
    filler.unlink()
    os.write(feed, b"\n")
    record = end_of(job)
    os.close(feed)
    assert (small.directory / "stdout").read_bytes() == b"first\nsecond\nthird\n"
    assert told(small, STDOUT) == record.stdout_bytes
    assert told(small, STDERR) == record.stderr_bytes
    assert record.lost_bytes > 0


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Keeper]:
    """A spool with room for its directory, the listener and the three files of output."""
    yield from _mounted(tmp_path, "nr_inodes=5")


def test_a_record_that_cannot_be_stored_is_sent_and_says_so(crowded: Keeper) -> None:
    record = end_of(crowded.launch(walls("exit 5")))
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 5
    assert record.output_errno == errno.ENOSPC
    assert not (crowded.directory / "exit").exists()
