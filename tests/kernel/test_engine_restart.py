"""The engine closes, and another one opens the same state: no job notices."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time

import pytest

from jobsup.supervisor.daemon.engine import Engine
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import AlreadyRunning
from tests.kernel.engines import (
    GOES_ON,
    IGNORES,
    ROOT,
    Daemon,
    leaf_of,
    message,
    turn_until,
    with_daemon,
)
from tests.machine import leaves


@with_daemon()
async def test_a_job_goes_on_and_is_as_before(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON, name="mine", pids=50, restart="on-failure")
    (process, *_) = leaf_of(record).processes()
    await daemon.reopen()
    found = await daemon.engine.find("mine", ROOT)
    assert found == record
    await daemon.engine.change(found, {"pids": 60})
    await daemon.engine.pause(found)
    await daemon.engine.resume(found)
    assert process in leaf_of(found).processes()
    await daemon.engine.stop(found)
    assert message(await daemon.ended(found)) == "sh was stopped on request"
    assert daemon.output(found) == b"ready\nbye\n"


@with_daemon()
async def test_a_paused_job_stays_paused(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    await daemon.engine.pause(record)
    await daemon.reopen()
    found = await daemon.found(record)
    assert found.state is State.PAUSED
    assert leaf_of(found).value("cgroup.events", "frozen") == 1
    await daemon.engine.resume(found)
    assert leaf_of(found).value("cgroup.events", "frozen") == 0


@with_daemon()
async def test_a_stop_in_progress_goes_on(daemon: Daemon) -> None:
    record = await daemon.running(IGNORES, restart="always")
    await daemon.engine.stop(record, grace_ms=500)
    await daemon.reopen()
    found = await daemon.found(record)
    status = await daemon.ended(found)
    assert message(status).startswith("sh was stopped on request")
    assert status.verdict is not None
    assert status.verdict["signal"] == "SIGKILL"  # after its grace


@with_daemon()
async def test_what_ended_meanwhile_is_told(daemon: Daemon) -> None:
    records = [await daemon.submit(f"sleep 0.2; echo {n}; exit {n}") for n in range(3)]
    await daemon.close()
    deadline = time.monotonic() + 60
    while leaves():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await daemon.open()
    for number, record in enumerate(records):
        found = await daemon.found(record)
        status = await daemon.ended(found)
        assert status.verdict is not None
        assert status.verdict["exit_code"] == number
        assert daemon.output(found) == b"%d\n" % number


@with_daemon(max_running=1)
async def test_the_queue_keeps_its_order(daemon: Daemon) -> None:
    first = await daemon.running(GOES_ON)
    waiting = [await daemon.submit(f"echo {n}") for n in range(4)]
    later = await daemon.submit("true", after="500ms")
    for _ in range(2):
        await daemon.reopen()
    found = [await daemon.found(record) for record in waiting]
    assert {record.state for record in found} == {State.QUEUED}
    later = await daemon.found(later)
    assert (later.state, later.reason) == (State.QUEUED, "waits for its time")
    await daemon.engine.kill(await daemon.found(first))
    ended = [await daemon.ended(record) for record in found]
    started = [status.started_at or "" for status in ended]
    assert started == sorted(started)
    assert {len(status.attempts) for status in ended} == {1}
    assert (await daemon.ended(later)).state == "completed"


@with_daemon()
async def test_a_job_between_two_runs_goes_on(daemon: Daemon) -> None:
    record = await daemon.submit("exit 3", restart="on-failure:2")
    await daemon.when(record, lambda: record.attempt == 2)
    await daemon.reopen()
    status = await daemon.ended(await daemon.found(record))
    assert [run.attempt for run in status.attempts] == [1, 2, 3]


@with_daemon()
async def test_launches_on_their_way_are_seen_through(daemon: Daemon) -> None:
    submitting = [asyncio.create_task(daemon.submit("echo run", name=f"j{n}")) for n in range(10)]
    while len(daemon.engine.jobs) < 10:  # noqa: ASYNC110 - nothing tells of that
        await asyncio.sleep(0)
    engine = daemon.engine
    await daemon.close()
    assert all(job.record.state is not State.QUEUED for job in engine.jobs.values())
    await asyncio.wait(submitting)
    await daemon.open()
    for number in range(10):
        status = await daemon.ended(await daemon.engine.find(f"j{number}", ROOT))
        assert (status.state, len(status.attempts)) == ("completed", 1)


@with_daemon()
async def test_closing_at_any_moment_loses_and_doubles_nothing(daemon: Daemon) -> None:
    for turns in range(0, 60, 4):
        record = await daemon.submit("echo run", restart="on-failure")
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await daemon.reopen()
        status = await daemon.ended(await daemon.found(record))
        assert (status.state, len(status.attempts)) == ("completed", 1)
        assert daemon.output(record) == b"run\n"


@with_daemon()
async def test_a_second_daemon_is_refused_and_told_whose_it_is(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    with pytest.raises(
        AlreadyRunning, match=rf"pid {os.getpid()} uses {re.escape(str(daemon.directory))}"
    ):
        await Engine.open(daemon.settings)
    assert record.state is State.RUNNING
    await daemon.engine.pause(record)


@with_daemon()
async def test_a_running_job_whose_files_are_gone_is_not_run_again(daemon: Daemon) -> None:
    flag = daemon.directory.parent / "flag"
    flag.mkdir()
    record = await daemon.running(f"echo run >> {flag}/runs; echo; sleep 1000", rw=[str(flag)])
    await daemon.close()
    for name in ("stdout", "stderr", "output.index"):
        os.unlink(f"{daemon.directory}/lib/jobs/{record.id}/1/{name}")
    os.unlink(f"{daemon.directory}/run/control/{record.id}")
    await daemon.open()
    status = await daemon.ended(await daemon.found(record))
    assert (status.state, len(status.attempts)) == ("failed", 1)
    assert (flag / "runs").read_bytes() == b"run\n"


@with_daemon()
async def test_a_job_of_which_nothing_can_be_found_out_holds_up_nobody(daemon: Daemon) -> None:
    """It stays where it is, can be stopped, and is taken up when it can be."""
    odd, stopped, even = [await daemon.running(GOES_ON) for _ in range(3)]
    (process, *_) = leaf_of(odd).processes()
    await daemon.close()
    for record in (odd, stopped):
        directory = daemon.directory / "lib" / "jobs" / record.id
        directory.rename(daemon.directory / record.id)
        directory.touch()  # ENOTDIR
    await daemon.open()
    assert (await daemon.found(even)).state is State.RUNNING
    odd, stopped = [await daemon.found(record) for record in (odd, stopped)]
    await daemon.when(odd, lambda: "not known yet" in (odd.reason or ""))
    assert odd.state is State.RUNNING
    await daemon.engine.stop(stopped)
    for record in (odd, stopped):
        directory = daemon.directory / "lib" / "jobs" / record.id
        directory.unlink()
        (daemon.directory / record.id).rename(directory)
    daemon.engine.dispatch.nudge()
    await turn_until(lambda: daemon.job(odd).handle)
    assert odd.reason is None
    assert process in leaf_of(odd).processes()
    assert message(await daemon.ended(stopped)) == "sh was stopped on request"
    await daemon.engine.stop(odd)
    assert message(await daemon.ended(odd)) == "sh was stopped on request"


@with_daemon()
async def test_nothing_is_made_for_a_job_whose_files_are_gone(daemon: Daemon) -> None:
    """There may be no room for it."""
    record = await daemon.running(GOES_ON)
    await daemon.close()
    shutil.rmtree(daemon.directory / "lib" / "jobs" / record.id)
    await daemon.open()
    found = await daemon.found(record)
    assert not (daemon.directory / "lib" / "jobs" / record.id).exists()
    await daemon.engine.stop(found)
    assert message(await daemon.ended(found)) == "sh was stopped on request"


@with_daemon(max_running=1)
async def test_a_request_that_cannot_be_read_holds_up_nobody(daemon: Daemon) -> None:
    running = await daemon.running(GOES_ON, restart="always")
    queued = await daemon.submit("true")
    for record in (running, queued):
        record.request = {"argv": ["sh"], "of_a_later_version": True}
        await daemon.engine.store.save(record)
    await daemon.reopen()
    waited = await daemon.ended(await daemon.found(queued))
    assert "of_a_later_version" in str(message(waited))
    found = await daemon.found(running)
    assert found.state is State.RUNNING
    await daemon.engine.stop(found)
    assert message(await daemon.ended(found)) == "sh was stopped on request"
