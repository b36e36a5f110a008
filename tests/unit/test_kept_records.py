"""The records that lie beside the jobs' files, and what is made of one that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsup.supervisor.daemon.launcher import Launcher
from jobsup.supervisor.daemon.paths import Paths
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State

ID = "j1"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "lib", tmp_path / "run")
    paths.make()
    return paths


def waiting() -> Record:
    return Record(id=ID, uid=7, gid=7, queued_ns=1, due_ns=5, reason="waits for its time")


def test_a_job_that_waits_is_found_as_it_was(paths: Paths) -> None:
    launcher = Launcher(paths)
    launcher.keep_queued(waiting())
    assert launcher.kept_ids() == [ID]
    assert launcher.kept(ID) == waiting()
    launcher.close()


def test_one_that_may_have_been_launched_does_not_wait(paths: Paths) -> None:
    launcher = Launcher(paths)
    launcher.keep_queued(waiting())
    paths.spool(ID, 1).mkdir()
    record = launcher.kept(ID)
    assert record is not None
    assert (record.state, record.due_ns, record.attempt) == (State.STARTING, None, 1)
    launcher.close()


def test_of_one_that_ended_before_it_was_launched_nothing_is_left(paths: Paths) -> None:
    launcher = Launcher(paths)
    launcher.keep_queued(waiting())
    launcher.forget_control(ID)
    assert launcher.kept_ids() == []
    launcher.keep_queued(waiting())
    (paths.job(ID) / "stdin").touch()
    launcher.forget_control(ID)
    assert launcher.kept(ID) is None
    assert (paths.job(ID) / "stdin").exists()
    launcher.close()


@pytest.mark.parametrize("data", [b"", b'{"id": "j', b"\0" * 100], ids=["empty", "torn", "zeros"])
def test_a_record_that_a_loss_of_power_left_is_none(paths: Paths, data: bytes) -> None:
    launcher = Launcher(paths)
    paths.job(ID).mkdir()
    for path in (paths.records / ID, paths.job(ID) / "job"):
        path.write_bytes(data)
    assert launcher.kept(ID) is None
    launcher.keep_queued(waiting())
    assert launcher.kept(ID) == waiting()
    launcher.close()


def test_an_empty_record_is_written_again_at_the_next_launch(paths: Paths) -> None:
    launcher = Launcher(paths)
    paths.job(ID).mkdir()
    (paths.job(ID) / "job").touch()
    launcher._keep(waiting())
    (paths.records / ID).unlink()
    assert launcher.kept(ID) is not None
    launcher.close()
