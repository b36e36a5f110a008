"""Places, budgets and times: when the engine starts jobs, and how often."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import BadValue, WrongState
from tests.kernel.engines import GOES_ON, ROOT, Daemon, message, turn_until, with_daemon
from tests.machine import leaves


@with_daemon(max_running=1)
async def test_jobs_start_in_the_order_of_their_submission(daemon: Daemon) -> None:
    first = await daemon.running(GOES_ON)
    waiting = await asyncio.gather(*(daemon.submit(f"echo {n}") for n in range(5)))
    assert {record.state for record in waiting} == {State.QUEUED}
    assert {record.reason for record in waiting} == {"waits for a free place"}
    assert len(leaves()) == 1
    await daemon.engine.kill(first)
    ended = [await daemon.ended(record) for record in waiting]
    started = [status.started_at or "" for status in ended]
    assert started == sorted(started)
    assert [daemon.output(record) for record in waiting] == [b"%d\n" % n for n in range(5)]


@with_daemon(memory="100M")
async def test_what_does_not_fit_holds_up_those_behind_it(daemon: Daemon) -> None:
    first = await daemon.running(GOES_ON, mem="60M")
    large = await daemon.submit("true", mem="100M")
    small = await daemon.submit("true", mem="10M")
    assert (large.state, small.state) == (State.QUEUED, State.QUEUED)
    await daemon.engine.change(large, {"mem": "40M"})
    assert (await daemon.ended(large)).state == "completed"
    assert (await daemon.ended(small)).state == "completed"
    await daemon.engine.change(first, {"mem": "100M"})
    last = await daemon.submit("true", mem="10M")
    assert last.state is State.QUEUED
    await daemon.engine.change(first, {"mem": "90M"})
    assert (await daemon.ended(last)).state == "completed"


@with_daemon(memory="100M", cpus=1)
async def test_what_could_never_start_is_refused(daemon: Daemon) -> None:
    impossible: list[tuple[dict[str, Any], str]] = [
        ({"cpus": 1}, "mem"),
        ({"mem": "101M", "cpus": 1}, "mem"),
        ({"mem": "1M"}, "cpus"),
    ]
    for options, field in impossible:
        with pytest.raises(BadValue) as refused:
            await daemon.submit("true", **options)
        assert refused.value.field == field
    record = await daemon.running(GOES_ON, mem="50M", cpus=0.5)
    with pytest.raises(BadValue):
        await daemon.engine.change(record, {"mem": "101M"})
    assert daemon.files() == {record.id}


@with_daemon(memory="100M")
async def test_a_job_that_a_smaller_budget_forbids_holds_up_nobody(daemon: Daemon) -> None:
    first = await daemon.running(GOES_ON, mem="60M")
    large = await daemon.submit("true", mem="100M")
    small = await daemon.submit("true", mem="10M")
    await daemon.reopen(memory="70M")
    large, small = await daemon.found(large), await daemon.found(small)
    assert (await daemon.ended(small)).state == "completed"
    assert large.state is State.QUEUED
    assert large.reason == (
        "cannot start: mem: '100M' is more than this supervisor's memory budget, 70M"
    )
    await daemon.engine.change(large, {"mem": "70M"})
    assert large.reason == "waits for a free place"
    await daemon.engine.kill(await daemon.found(first))
    assert (await daemon.ended(large)).state == "completed"


@with_daemon(max_running=1)
async def test_a_queued_job_can_be_stopped_killed_changed_and_not_paused(daemon: Daemon) -> None:
    first = await daemon.running(GOES_ON)
    stopped, killed, changed, later = [
        await daemon.submit("true", **options)  # type: ignore[arg-type]
        for options in ({}, {}, {}, {"after": "1h"})
    ]
    output = asyncio.create_task(daemon.engine.spool(stopped).wait_complete())
    for verb in (daemon.engine.pause, daemon.engine.resume):
        with pytest.raises(WrongState, match="is queued"):
            await verb(stopped)
    with pytest.raises(WrongState, match="is queued"):
        await daemon.engine.signal(stopped, 1)
    for record, verb, cause in (
        (stopped, daemon.engine.stop, "stopped"),
        (killed, daemon.engine.kill, "killed"),
        (later, daemon.engine.stop, "stopped"),
    ):
        answers = await asyncio.gather(verb(record), verb(record), return_exceptions=True)
        assert answers[0] is None
        assert answers[1] is None or isinstance(answers[1], WrongState)
        status = await daemon.ended(record)
        assert (status.state, status.started_at) == ("stopped", None)
        assert message(status) == f"{cause} on request, before it was started"
    await output
    status = await daemon.engine.change(changed, {"pids": 77})
    assert (status.state, status.request["pids"], status.limits) == ("queued", 77, {})
    await daemon.engine.kill(first)
    assert (await daemon.ended(changed)).limits["pids.max"] == "77"


@with_daemon(max_running=1)
async def test_a_stop_and_a_free_place_at_the_same_time(daemon: Daemon) -> None:
    for turns in range(10):
        first = await daemon.running(GOES_ON)
        second = await daemon.submit("sleep 1000")
        await daemon.engine.kill(first)
        for _ in range(turns):
            await asyncio.sleep(0.002)
        await daemon.engine.stop(second)
        assert (await daemon.ended(second)).state == "stopped"
        await daemon.ended(first)


# ---- times


@with_daemon()
async def test_after_and_at(daemon: Daemon) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    at = await daemon.submit("true", at=stamp)
    past = await daemon.submit("true", at="2020-01-01T00:00:00Z")
    soon = await daemon.submit("true", after="300ms")
    for record in (at, soon):
        assert (record.state, record.reason) == (State.QUEUED, "waits for its time")
    for record in (past, soon, at):
        due = record.due_ns
        status = await daemon.ended(record)
        assert status.state == "completed"
        assert record.started_ns is not None
        assert record.started_ns >= (due or 0)
    assert soon.started_ns is not None
    assert soon.started_ns - soon.queued_ns >= 300 * 10**6


@with_daemon()
async def test_cron_runs_again_and_again(daemon: Daemon) -> None:
    record = await daemon.submit("echo run", every="* * * * *")
    clock = daemon.engine.dispatch._clock
    for attempt in (1, 2, 3):
        assert (record.state, record.attempt) == (State.QUEUED, attempt)
        assert record.due_ns is not None
        assert record.due_ns % (60 * 10**9) == 0
        await turn_until(lambda: record.id in clock._calls)
        clock.call_at(record.id, 1, lambda: _come_due(daemon, record.id))  # the minute has come
        await daemon.when(record, lambda: record.attempt == attempt + 1)  # noqa: B023
    await turn_until(lambda: record.id in clock._calls)
    status = await daemon.engine.status(record)
    assert [run.attempt for run in status.attempts] == [1, 2, 3]
    assert status.output == {"stdout_bytes": 4, "stderr_bytes": 0}  # of the last run
    await daemon.engine.stop(record)
    status = await daemon.ended(record)
    assert (status.state, status.output["stdout_bytes"]) == ("stopped", 4)


def _come_due(daemon: Daemon, job_id: str) -> None:
    daemon.engine.dispatch._came_due(daemon.engine.jobs[job_id])


@with_daemon()
async def test_a_time_that_comes_while_the_daemon_closes(daemon: Daemon) -> None:
    records = [await daemon.submit("true", after="1ms") for _ in range(10)]
    await daemon.close()
    await daemon.open()
    for record in records:
        found = await daemon.found(record)
        status = await daemon.ended(found)
        assert (status.state, len(status.attempts)) == ("completed", 1)


# ---- again


@with_daemon()
async def test_on_failure_runs_it_so_many_times_more(daemon: Daemon) -> None:
    record = await daemon.submit("echo run; exit 3", restart="on-failure:2")
    output = [daemon.engine.spool(record, attempt) for attempt in (1, 2, 3)]
    seen = [asyncio.create_task(view.wait_complete()) for view in output]
    status = await daemon.ended(record)
    assert (status.state, status.attempt) == ("failed", 3)
    assert [run.verdict and run.verdict["exit_code"] for run in status.attempts] == [3, 3, 3]
    await asyncio.gather(*seen)
    assert [daemon.output(record, attempt) for attempt in (1, 2, 3)] == [b"run\n"] * 3
    states = [step.state.value for step in await daemon.engine.store.transitions(record.id)]
    assert states == ["starting", "running", "queued"] * 2 + ["starting", "running", "failed"]


@with_daemon()
async def test_success_ends_it(daemon: Daemon) -> None:
    flag = daemon.directory.parent / "flag"
    flag.mkdir()
    record = await daemon.submit(
        f"test -e {flag}/there || {{ touch {flag}/there; exit 1; }}",
        restart="on-failure", rw=[str(flag)],
    )  # fmt: skip
    status = await daemon.ended(record)
    assert (status.state, status.attempt) == ("completed", 2)


@with_daemon()
async def test_the_last_ten_runs_are_kept(daemon: Daemon) -> None:
    record = await daemon.submit("echo run", restart="always")
    delays = daemon.engine.dispatch._delays
    for attempt in range(1, 13):
        await daemon.when(
            record,
            lambda: record.attempt > attempt,  # noqa: B023
        )
        # Where the machine is slow, the pause may be over before it is seen.
        await turn_until(lambda: record.id in delays or record.state is not State.QUEUED)
        if (delay := delays.get(record.id)) is None:
            continue
        assert delay.when() - asyncio.get_running_loop().time() <= min(2 ** (attempt - 1), 60)
        delay.cancel()
        _come_due(daemon, record.id)  # the test does not wait for the pause
    await daemon.engine.stop(record)
    await daemon.ended(record)
    await turn_until(lambda: not daemon.engine.dispatch._tasks)  # old runs are removed meanwhile
    status = await daemon.engine.status(record)
    last = status.attempt
    kept = list(range(last - 9, last + 1)) if len(status.attempts) == 10 else []
    assert [run.attempt for run in status.attempts] in (kept, list(range(last - 10, last + 1)))
    spools = {path.name for path in daemon.spool(record).parent.iterdir() if path.is_dir()}
    assert spools <= {str(run.attempt) for run in status.attempts} | {str(last)}


@with_daemon()
async def test_between_two_runs_it_can_be_stopped(daemon: Daemon) -> None:
    record = await daemon.submit("exit 3", restart="always")
    await daemon.when(record, lambda: record.attempt == 2)
    assert record.reason == "restarts after a pause of 1 s"
    await daemon.engine.stop(record)
    status = await daemon.ended(record)
    assert (status.state, message(status)) == (
        "stopped",
        "stopped on request, before it was started",
    )
    assert [run.attempt for run in status.attempts] == [1, 2]
    assert daemon.engine.dispatch._delays == {}


@contextmanager
def user(directory: Path, line: str) -> Iterator[None]:
    """A user whom the host has meanwhile."""
    passwd = directory / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + line)
    subprocess.run(["mount", "--bind", str(passwd), "/etc/passwd"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/passwd"], check=True)


@with_daemon()
async def test_a_refusal_of_a_later_run_is_its_verdict(daemon: Daemon) -> None:
    """The user whom it ran as is gone before its first run ends."""
    with user(daemon.directory, "jobsup-test:x:64999:64999::/:/bin/sh\n"):
        record = await daemon.running(
            "echo; exec sleep 0.3", user="jobsup-test", group=0, restart="always"
        )
    await daemon.when(record, lambda: record.attempt == 3)
    await daemon.engine.stop(record)
    status = await daemon.ended(record)
    first, second = (run.verdict or {} for run in status.attempts[:2])
    assert (first["cause"], second["cause"]) == ("exited", "setup")
    assert "jobsup-test" in second["message"]


@with_daemon()
async def test_a_thousand_jobs_leave_nothing_in_memory(daemon: Daemon) -> None:
    """No processes: those that end in the queue take the same way out."""
    records = [await daemon.submit("true", after="1h") for _ in range(500)]
    records += [await daemon.submit("true", at="2100-01-01T00:00Z") for _ in range(500)]
    await asyncio.gather(*map(daemon.engine.stop, records))
    assert daemon.engine.jobs == {}
    assert len(daemon.engine.dispatch._clock._heap) <= 200
    assert len((await daemon.engine.page(ROOT, limit=1000)).jobs) == 1000
