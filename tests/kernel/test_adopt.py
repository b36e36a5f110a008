"""A job goes on when its starter is killed, and whoever comes next is in charge of it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobsup.isolation import Bind, EndedBy, ExitRecord, Program, Walls
from jobsup.isolation.shim import constant
from tests.kernel.inside import PYTHON, place
from tests.kernel.kept import GOES_ON, NOBODY, Keeper, end_of, is_silent, kept_in, status_of, walls
from tests.kernel.resting import wait_resting
from tests.machine import inits, kill, leaves, wait_ended, wait_no_inits


@pytest.fixture
def open_keeper() -> Iterator[Keeper]:
    """One whose listener every user may reach."""
    with place() as directory, kept_in(directory) as keeper:
        yield keeper


def _missing_command() -> Walls:
    return walls("")._replace(program=Program((b"no-such",), (b"/bin/no-such",)))


def test_who_connects_is_told_how_the_job_is_and_sees_its_end(keeper: Keeper) -> None:
    keeper.launch_and_die(walls(GOES_ON))
    job = keeper.adopt()
    said = status_of(job)
    assert said.started_ns > 0
    assert (said.paused, said.ending) == (False, EndedBy.NOTHING)
    assert {job.pid} == inits()
    keeper.wait_output(b"ready\n")
    job.stop(signal.SIGTERM, 3_600_000)
    assert status_of(job) == said._replace(ending=EndedBy.STOP)
    record = job.receive()
    assert isinstance(record, ExitRecord)
    assert record.ended_by is EndedBy.STOP
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 0
    assert job.receive() is None
    assert job.conclude() == record == keeper.stored()
    assert record.started_ns == said.started_ns


@pytest.mark.parametrize(
    ("asked", "expected"), [("stop", EndedBy.STOP), ("pause", EndedBy.NOTHING)]
)
def test_what_the_one_before_asked_for_last_is_done(
    keeper: Keeper, asked: str, expected: EndedBy
) -> None:
    keeper.launch_and_die(walls("trap '' TERM; echo ready; while :; do sleep 1; done"), asked)
    job = keeper.adopt()
    said = status_of(job)
    assert said.ending is expected
    if asked == "pause":
        assert said.paused or status_of(job).paused
    job.kill()
    end_of(job)


def test_the_newest_connection_is_in_charge_and_the_others_see_eof(keeper: Keeper) -> None:
    first = keeper.launch(walls(GOES_ON))
    assert status_of(first).started_ns
    second = keeper.adopt()
    status_of(second)
    assert first.receive() is None
    third = keeper.adopt()
    status_of(third)
    assert second.receive() is None
    first.kill()  # nobody hears it
    assert is_silent(third, 0.2)
    third.stop(signal.SIGTERM, 3_600_000)
    assert end_of(third).ended_by is EndedBy.STOP
    for job in (first, second):
        assert job.conclude() == keeper.stored()


def test_connections_leave_nothing_behind_in_the_init(keeper: Keeper) -> None:
    job = keeper.launch(walls(GOES_ON))
    assert status_of(job).started_ns
    descriptors = Path(f"/proc/{job.pid}/fd")
    before = sorted(descriptors.iterdir())
    for _ in range(50):
        with keeper.connect() or socket.socket() as control:
            assert control.recv(100)
    last = keeper.adopt()
    status_of(last)
    assert sorted(descriptors.iterdir()) == before
    last.kill()
    end_of(last)
    job.conclude()


def test_a_job_whose_peer_is_gone_uses_no_processor(keeper: Keeper) -> None:
    """The number of its lost socket stays taken, and is not watched."""
    keeper.launch_and_die(walls("exec sleep 1000"))
    job = keeper.adopt()
    status_of(job)
    pid = job.pid
    assert job._control
    job._control.close()
    wait_resting(pid, seconds=0.5)
    again = keeper.adopt()
    status_of(again)
    again.kill()
    end_of(again)
    job.conclude()


# ---- who may connect


def test_only_root_may_connect(open_keeper: Keeper) -> None:
    job = open_keeper.launch(walls(GOES_ON))
    assert status_of(job).started_ns
    os.chmod(open_keeper.address, 0o777)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.setresuid(NOBODY, NOBODY, NOBODY)
            control = open_keeper.connect()
            assert control
            os._exit(0 if _said(control) == b"" else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_silent(job, 0.1)  # still in charge
    job.kill()
    assert end_of(job).ended_by is EndedBy.KILL


def _said(control: socket.socket) -> bytes:
    with suppress(ConnectionResetError):
        return control.recv(100)
    return b""


def test_nobody_of_the_job_itself_may_connect(open_keeper: Keeper) -> None:
    """Whatever was granted, and as root."""
    probe = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
        "s.connect('/tmp/here/control'); print(s.recv(100))"
    )
    grants = (Bind(os.fsencode(open_keeper.directory), b"/tmp/here", True),)
    job = open_keeper.launch(walls(f'{PYTHON} -ISc "{probe}"', grants=grants))
    record = end_of(job)
    assert record.ended_by is EndedBy.NOTHING
    said = (open_keeper.directory / "stderr").read_text()
    assert (open_keeper.directory / "stdout").read_text() == "b''\n" or "ConnectionReset" in said


# ---- an end without anybody


def test_a_job_that_ended_while_nobody_was_there_is_told_by_its_stored_record(
    keeper: Keeper,
) -> None:
    keeper.launch_and_die(walls("exit 7"))
    wait_no_inits()
    job = keeper.adopt()
    assert (job.pid, job.fileno(), job.receive()) == (None, -1, None)
    record = job.conclude()
    assert record == keeper.stored()
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 7


def test_a_job_whose_init_was_killed_meanwhile_left_nothing(keeper: Keeper) -> None:
    keeper.launch_and_die(walls("trap '' TERM; sleep 1000 & wait"))
    assert leaves() == {keeper.name}
    (init,) = inits()
    kill(init)
    wait_no_inits()
    job = keeper.adopt()
    assert job.receive() is None
    assert job.conclude() is None
    assert leaves() == set()


def test_an_init_that_is_killed_after_it_was_adopted(keeper: Keeper) -> None:
    keeper.launch_and_die(walls(GOES_ON))
    job = keeper.adopt()
    status_of(job)
    assert job.pid
    kill(job.pid)
    assert job.receive() is None
    assert job.conclude() is None


def test_an_init_whose_listener_was_deleted_ends_with_its_record(keeper: Keeper) -> None:
    """It cannot be reached any more, so it is given up; how it ended is known all the same."""
    keeper.launch_and_die(walls(GOES_ON))
    os.unlink(keeper.address)
    job = keeper.adopt()
    assert job.fileno() == -1
    record = job.conclude()
    assert record == keeper.stored()
    assert os.WTERMSIG(record.wait_status or 0) == signal.SIGKILL


def test_a_torn_record_is_no_record(keeper: Keeper) -> None:
    keeper.launch_and_die(walls("exit 7"))
    wait_no_inits()
    whole = (keeper.directory / "exit").read_bytes()
    (keeper.directory / "exit").write_bytes(whole[:-1])
    assert keeper.adopt().conclude() is None


def test_a_connection_at_any_moment_of_the_end_sees_it(keeper: Keeper) -> None:
    """A status, the record, or EOF: and after EOF the record is stored."""
    keeper.launch_and_die(walls("sleep 0.3; exit 7"))
    status = constant("MESSAGE_STATUS").to_bytes(4, sys.byteorder)
    while control := keeper.connect():
        with control:
            if not _said(control).startswith(status):
                keeper.stored()
    wait_no_inits()
    record = keeper.adopt().conclude()
    assert record is not None
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 7


# ---- a step that failed


def test_a_failed_step_is_told_in_the_words_of_a_plan_made_again(keeper: Keeper) -> None:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            keeper.launch(_missing_command())
        os._exit(0)
    os.waitpid(child, 0)
    wait_no_inits()
    job = keeper.adopt()
    record = job.conclude(_missing_command())
    assert record is not None
    assert record.failure is not None
    assert (record.failure.step, record.failure.is_exec) == ("execute no-such", True)
    other = keeper.adopt().conclude()
    assert other is not None
    assert other.failure is not None
    assert other.failure.step.startswith("step ")
    assert other.failure.is_exec


# ---- the lifeline


def test_a_lifeline_that_is_let_go_ends_the_job(keeper: Keeper) -> None:
    read_end, write_end = os.pipe()
    job = keeper.launch(walls(GOES_ON), lifeline=read_end)
    os.close(read_end)
    assert status_of(job).started_ns
    os.write(write_end, b"bytes mean nothing")
    assert is_silent(job, 0.1)
    os.close(write_end)
    record = end_of(job)
    assert record.ended_by is EndedBy.PEER_LOST
    assert record == keeper.stored()


def test_a_lifeline_ends_it_without_a_daemon_and_whatever_nobody_reads(keeper: Keeper) -> None:
    lifeline, ours = os.pipe()
    unread, stdout = os.pipe()
    job = keeper.launch(walls("yes"), lifeline=lifeline, stdout=stdout, stderr=stdout)
    os.close(lifeline)
    os.close(stdout)
    assert status_of(job).started_ns
    init = os.pidfd_open(job.pid or 0)
    assert job._control
    job._control.close()
    os.close(ours)
    wait_ended(init)
    os.close(init)
    os.close(unread)
    job.conclude()
    assert keeper.stored().ended_by is EndedBy.PEER_LOST


def test_in_the_foreground_of_a_daemon_only_the_record_is_kept(keeper: Keeper) -> None:
    source, stdout = os.pipe()
    job = keeper.launch(walls("echo out; echo err >&2; exit 4"), stdout=stdout, stderr=stdout)
    os.close(stdout)
    record = end_of(job)
    with open(source, "rb") as file:
        assert sorted(file.read().splitlines()) == [b"err", b"out"]
    assert record == keeper.stored()
    assert {entry.name for entry in keeper.directory.iterdir()} == {"exit", "control"}
