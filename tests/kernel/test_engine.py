"""The daemon's engine with real jobs: taken on, run, asked about, stopped, forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobsup.isolation import JobsupError, LimitNotEnforceable, PathRefused
from jobsup.supervisor.daemon.launcher import Attached
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import BadValue, NotReady, WrongState
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
from tests.machine import inits, leaves

KILL = int(signal.SIGKILL)


# ---- from submission to verdict


@with_daemon()
async def test_a_job_is_run_and_its_end_and_output_are_kept(daemon: Daemon) -> None:
    record = await daemon.submit("echo out; echo err >&2; exit 3", name="mine", mem="64M")
    status = await daemon.ended(record)
    assert (status.state, message(status)) == ("failed", "exited with code 3")
    assert status.output == {"stdout_bytes": 4, "stderr_bytes": 4}
    assert status.limits["memory.max"] == str(64 << 20)
    assert daemon.output(record) == b"out\n"
    assert [(run.attempt, run.verdict) for run in status.attempts] == [(1, status.verdict)]
    assert status.request["output_max"] == 1 << 30
    assert (await daemon.engine.find("mine", ROOT)).id == record.id
    states = [step.state.value for step in await daemon.engine.store.transitions(record.id)]
    assert states == ["starting", "running", "failed"]


@with_daemon()
async def test_what_is_given_as_stdin_is_read(daemon: Daemon) -> None:
    given = daemon.directory / "lib/incoming/part"
    given.write_bytes(b"some\nlines\n" * 10_000)
    record = await daemon.submit("wc -l; cat", stdin=given)
    assert (await daemon.ended(record)).state == "completed"
    assert daemon.output(record) == b"20000\n"
    assert not given.exists()


@with_daemon()
async def test_without_it_stdin_is_empty(daemon: Daemon) -> None:
    record = await daemon.submit("cat; echo $?")
    await daemon.ended(record)
    assert daemon.output(record) == b"0\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cwd": "/no/such/directory"}, PathRefused),
        ({"ro": ["/no/such/file"]}, PathRefused),
        ({"cgroup": ["memory.high=lots"]}, LimitNotEnforceable),
        ({"user": "nobody-like-it"}, BadValue),
    ],
)
def test_what_the_host_refuses_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[JobsupError]
) -> None:
    @with_daemon()
    async def test(daemon: Daemon) -> None:
        given = daemon.directory / "lib/incoming/part"
        for stdin in (None, given):
            given.write_bytes(b"data")
            with daemon.engine.events.subscribe(None) as events:
                with pytest.raises(error):
                    await daemon.submit("true", stdin=stdin, **options)
                daemon.engine.events.close()
                told = [event.state async for event in events]
            assert leaves() == set()
            given.unlink(missing_ok=True)  # without a job it stays whose it was
            assert daemon.files() == set()
            assert await daemon.rows() == set()
            assert daemon.engine.jobs == {}
            assert told in ([], ["starting", "failed"])

    test(tmp_path)


@with_daemon()
async def test_who_waits_for_a_job_that_is_refused_is_told(daemon: Daemon) -> None:
    submitting = asyncio.create_task(daemon.submit("true", cwd="/no/such/directory"))
    (job,) = await turn_until(lambda: list(daemon.engine.jobs.values()))
    waiting = asyncio.create_task(daemon.engine.wait(job.record))
    pausing = asyncio.create_task(daemon.engine.pause(job.record))
    output = asyncio.create_task(daemon.engine.spool(job.record).wait_complete())
    with pytest.raises(PathRefused) as refused:
        await submitting
    status = await waiting
    assert (status.state, status.reason) == ("failed", str(refused.value))
    with pytest.raises(WrongState):
        await pausing
    await output


@with_daemon()
async def test_a_client_that_goes_away_in_the_middle_leaves_a_whole_job(daemon: Daemon) -> None:
    for turns in range(12):
        submitting = asyncio.create_task(daemon.submit("echo done"))
        for _ in range(turns):
            await asyncio.sleep(0)
        submitting.cancel()
        await asyncio.wait([submitting])
        for job in list(daemon.engine.jobs.values()):
            status = await daemon.ended(job.record)
            assert status.state == "completed"
            assert daemon.output(job.record) == b"done\n"
    assert daemon.files() == await daemon.rows()


# ---- stopping


@with_daemon()
async def test_stop_asks_first(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    await daemon.engine.stop(record)
    status = await daemon.ended(record)
    assert (status.state, message(status)) == ("stopped", "sh was stopped on request")
    assert daemon.output(record) == b"ready\nbye\n"
    with pytest.raises(WrongState, match=r"has ended \(stopped\): sh was stopped"):
        await daemon.engine.stop(record)


@with_daemon()
async def test_and_kills_after_its_grace(daemon: Daemon) -> None:
    record = await daemon.running(IGNORES)
    await daemon.engine.stop(record, grace_ms=10)
    status = await daemon.ended(record)
    assert status.verdict is not None
    assert (status.verdict["cause"], status.verdict["signal"]) == ("stopped", "SIGKILL")


@with_daemon()
async def test_a_second_stop_may_be_less_patient(daemon: Daemon) -> None:
    record = await daemon.running(IGNORES)
    await daemon.engine.stop(record, grace_ms=3_600_000)
    assert record.state is State.STOPPING
    await daemon.engine.stop(record, grace_ms=0)
    assert (await daemon.ended(record)).state == "stopped"


@with_daemon()
async def test_several_stops_at_once_are_one(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    await asyncio.gather(*(daemon.engine.stop(record) for _ in range(5)))
    assert (await daemon.ended(record)).state == "stopped"


@with_daemon()
async def test_a_paused_job_wakes_up_to_be_stopped(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    await daemon.engine.pause(record)
    await daemon.engine.stop(record)
    await daemon.ended(record)
    assert daemon.output(record) == b"ready\nbye\n"


@with_daemon()
async def test_a_stop_during_the_launch_is_not_lost(daemon: Daemon) -> None:
    for turns in range(0, 40, 3):
        submitting = asyncio.create_task(daemon.submit("sleep 1000"))
        (job,) = await turn_until(lambda: list(daemon.engine.jobs.values()))
        record = job.record
        await turn_until(lambda: record.state is not State.QUEUED)  # noqa: B023 - awaited at once
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        await daemon.engine.stop(record)
        assert (await daemon.ended(record)).state == "stopped"
        await asyncio.wait([submitting])


@with_daemon()
async def test_a_client_that_goes_away_has_stopped_it_all_the_same(daemon: Daemon) -> None:
    for turns in range(4):
        record = await daemon.running(GOES_ON)
        stopping = asyncio.create_task(daemon.engine.stop(record))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        stopping.cancel()
        assert (await daemon.ended(record)).state == "stopped"


@with_daemon()
async def test_a_stop_at_the_very_end_changes_nothing(daemon: Daemon) -> None:
    for turns in range(10):
        record = await daemon.submit("exit 3", restart="always")
        job = daemon.job(record)
        while job.concluding is None:
            await job.wait_change()
        for _ in range(turns):
            await asyncio.sleep(0)
        await daemon.engine.stop(record)
        status = await daemon.ended(record)
        # It had ended by itself, or it waited for its next run.
        assert message(status) in {
            "exited with code 3",
            "stopped on request, before it was started",
        }
        assert record.id not in daemon.engine.jobs


@with_daemon()
async def test_kill(daemon: Daemon) -> None:
    record = await daemon.running(IGNORES)
    await daemon.engine.kill(record)
    assert message(await daemon.ended(record)) == "sh was killed on request"


@with_daemon()
async def test_signals(daemon: Daemon) -> None:
    record = await daemon.running(
        "trap 'echo got; exit 7' USR1; echo; while :; do sleep 0.05; done"
    )
    await daemon.engine.signal(record, signal.SIGUSR1)
    assert message(await daemon.ended(record)) == "exited with code 7"
    with pytest.raises(WrongState):
        await daemon.engine.signal(record, signal.SIGUSR1)


# ---- pausing, changing


@with_daemon()
async def test_pause_and_resume_may_be_said_twice(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    for verb, state, frozen in (
        (daemon.engine.pause, State.PAUSED, 1),
        (daemon.engine.resume, State.RUNNING, 0),
    ) * 2:
        await asyncio.gather(verb(record), verb(record))
        await verb(record)
        assert record.state is state
        assert leaf_of(record).value("cgroup.events", "frozen") == frozen
    await daemon.engine.kill(record)
    await daemon.ended(record)
    for verb in (daemon.engine.pause, daemon.engine.resume):
        with pytest.raises(WrongState):
            await verb(record)


@with_daemon()
async def test_limits_are_changed_in_the_leaf_and_in_the_record(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON, pids=50)
    status = await daemon.engine.change(record, {"mem": "100M", "pids": 60})
    assert status.request["pids"] == 60
    assert leaf_of(record).read("pids.max") == record.limits["pids.max"] == "60"
    assert leaf_of(record).read("memory.max") == str(100 << 20)
    stored = await daemon.engine.store.get(record.id)
    assert stored is not None
    assert (stored.request, stored.limits) == (record.request, record.limits)


@with_daemon()
async def test_of_changes_at_the_same_time_none_is_lost(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    changes: list[dict[str, Any]] = [
        {"mem": "100M"},
        {"pids": 60},
        {"cpus": 0.5},
        {"mem": "200M"},
        {"cpu_weight": 50},
    ]
    await asyncio.gather(*(daemon.engine.change(record, options) for options in changes))
    asked = {key: record.request[key] for key in ("mem", "pids", "cpus", "cpu_weight")}
    assert asked == {"mem": 200 << 20, "pids": 60, "cpus": 0.5, "cpu_weight": 50}
    leaf = leaf_of(record)
    assert (leaf.read("pids.max"), leaf.read("memory.max")) == ("60", str(200 << 20))


@with_daemon()
async def test_a_refused_change_changes_nothing(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON, pids=50)
    before = (dict(record.request), dict(record.limits), leaf_of(record).read("pids.max"))
    refused: list[tuple[dict[str, Any], type[JobsupError]]] = [
        ({"pids": 60, "cgroup": ["memory.high=lots"]}, LimitNotEnforceable),
        ({"pids": 60, "argv": ["true"]}, BadValue),
        ({"pids": 60, "mem": "lots"}, BadValue),
    ]
    for options, error in refused:
        with pytest.raises(error):
            await daemon.engine.change(record, options)
        after = (record.request, record.limits, leaf_of(record).read("pids.max"))
        assert after == before


@with_daemon()
async def test_a_change_as_its_job_ends_hangs_nobody(daemon: Daemon) -> None:
    for _ in range(5):
        record = await daemon.submit("exit 0")
        change = asyncio.create_task(daemon.engine.change(record, {"pids": 60}))
        await asyncio.wait([change])
        error = change.exception()
        assert error is None or isinstance(error, WrongState | LimitNotEnforceable)
        await daemon.ended(record)
        await daemon.engine.remove(record)
    assert await daemon.rows() == set()


# ---- the foreground, the daemon as a whole


@with_daemon()
async def test_a_job_of_the_foreground_writes_to_its_caller(daemon: Daemon) -> None:
    stdin, stdout, lifeline = os.pipe(), os.pipe(), os.pipe()
    os.close(stdin[1])
    given = Attached(stdin[0], stdout[1], os.dup(stdout[1]), lifeline[0])
    record = await daemon.submit("echo out; echo err >&2; exec sleep 1000", attached=given)
    assert await asyncio.to_thread(os.read, stdout[0], 4) == b"out\n"
    assert await asyncio.to_thread(os.read, stdout[0], 4) == b"err\n"
    os.close(lifeline[1])  # the caller dies
    status = await daemon.ended(record)
    assert status.state == "stopped"
    assert await asyncio.to_thread(os.read, stdout[0], 1) == b"", "a descriptor is left open"
    os.close(stdout[0])


@with_daemon()
async def test_a_refused_one_closes_what_it_was_given(daemon: Daemon) -> None:
    refused: list[dict[str, Any]] = [{"cwd": "/no/such/directory"}, {"user": "nobody-like-it"}]
    for options in refused:
        stdout, lifeline = os.pipe(), os.pipe()
        given = Attached(None, stdout[1], os.dup(stdout[1]), lifeline[0])
        with pytest.raises(JobsupError):
            await daemon.submit("true", attached=given, **options)
        assert os.read(stdout[0], 1) == b""
        with pytest.raises(BrokenPipeError):
            os.write(lifeline[1], b".")
        os.close(stdout[0])
        os.close(lifeline[1])


@with_daemon()
async def test_unready_takes_no_jobs_and_remembers_it(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON)
    await daemon.engine.set_ready(False)
    for _ in range(2):
        with pytest.raises(NotReady, match="the daemon takes no new jobs") as refused:
            await daemon.submit("true")
        assert refused.value.hint == "root can change that: jobsup control ready"
        await daemon.reopen()
    assert (await daemon.found(record)).state is State.RUNNING
    await daemon.engine.set_ready(True)
    assert (await daemon.run("true")).state == "completed"


@with_daemon(max_running=2)
async def test_terminate_ends_all_there_is(daemon: Daemon) -> None:
    records = [
        await daemon.running(GOES_ON),
        await daemon.running(GOES_ON, restart="always"),
        await daemon.submit("true"),
        await daemon.submit("true", after="1h"),
        await daemon.submit("true", every="0 0 1 1 *"),
    ]
    halfway = asyncio.create_task(daemon.submit("true"))
    await asyncio.sleep(0)
    await daemon.engine.terminate()
    await asyncio.wait([halfway])
    assert daemon.engine.jobs == {}
    assert inits() == set()
    assert {record.state for record in records} == {State.STOPPED}
    with pytest.raises(NotReady):
        await daemon.submit("true")
