"""A file as stdin: the init alone copies it to the job, which never has the file itself."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from jobsup.isolation import EndedBy, ExitRecord
from tests.kernel.kept import Keeper, end_of, walls
from tests.machine import wait_no_inits

SIZE = (9 << 20) + 12_345


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "given"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def fed(keeper: Keeper, path: Path | str, script: str, offset: int = 0) -> ExitRecord:
    """The end of a job that reads the file, with its output in keeper's files."""
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, offset, os.SEEK_SET)
    job = keeper.launch(walls(script), stdin=descriptor)
    os.close(descriptor)
    return end_of(job)


def written(keeper: Keeper) -> bytes:
    return (keeper.directory / "stdout").read_bytes()


def test_every_byte_arrives_and_then_eof(keeper: Keeper, source: Path) -> None:
    fed(keeper, source, "sha256sum; cat | wc -c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert written(keeper) == f"{digest}  -\n0\n".encode()


def test_a_job_that_reads_slowly_gets_all_of_it_in_order(keeper: Keeper, source: Path) -> None:
    fed(keeper, source, "for i in $(seq 12); do dd bs=1M count=1 iflag=fullblock; sleep 0.02; done")
    assert written(keeper) == source.read_bytes()


def test_it_begins_where_the_file_stands(keeper: Keeper, source: Path) -> None:
    fed(keeper, source, "cat", offset=SIZE - 10)
    assert written(keeper) == source.read_bytes()[-10:]


def test_an_empty_file_is_an_empty_stdin(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    fed(keeper, tmp_path / "empty", "cat; echo end")
    assert written(keeper) == b"end\n"


def test_a_file_that_cannot_be_spliced(keeper: Keeper) -> None:
    fed(keeper, "/proc/self/mountinfo", "cat")
    assert b" /proc " in written(keeper)


@pytest.mark.parametrize(
    "script", ["exec 0<&-; echo $?; exit 3", "head -c 5 >&2; exit 3", "exit 3"]
)
def test_a_job_that_reads_no_further_ends_as_it_does(
    keeper: Keeper, source: Path, script: str
) -> None:
    record = fed(keeper, source, script)
    assert (record.ended_by, record.output_errno) == (EndedBy.NOTHING, 0)
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 3


def test_it_goes_on_without_a_starter(keeper: Keeper, source: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            keeper.launch(walls("sleep 0.3; sha256sum"), stdin=os.open(source, os.O_RDONLY))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    wait_no_inits()
    assert written(keeper).startswith(hashlib.sha256(source.read_bytes()).hexdigest().encode())
    assert keeper.adopt().conclude() is not None


def test_the_job_never_has_the_file(keeper: Keeper, source: Path) -> None:
    source.write_bytes(b"short")
    script = "readlink /proc/self/fd/0; ls /proc/self/fd | wc -l; echo x > /dev/stdin; exit 0"
    fed(keeper, source, script)
    assert written(keeper).startswith(b"pipe:[")
    assert written(keeper).endswith(b"\n4\n")  # 0, 1, 2 and the directory
    assert source.read_bytes() == b"short"
