"""The wall clock of the guest is set while jobs wait for their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from jobsup.supervisor.daemon.state import State
from tests.kernel.engines import Daemon, with_daemon

YEAR = 365 * 86_400
HOUR = 3600


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """Right again afterwards."""
    real, since = time.time_ns(), time.monotonic_ns()
    yield
    time.clock_settime_ns(time.CLOCK_REALTIME, real + time.monotonic_ns() - since)


def jump(seconds: int) -> None:
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    time.clock_settime_ns(time.CLOCK_REALTIME, now + seconds * 10**9)


def at(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


@with_daemon()
async def test_times_of_day_follow_it_and_durations_do_not(daemon: Daemon) -> None:
    moment = await daemon.submit("true", at=at(HOUR))
    duration = await daemon.submit("true", after="2h")
    jump(2 * HOUR)
    assert (await daemon.ended(moment)).state == "completed"
    jump(YEAR)
    await asyncio.sleep(0.2)
    assert duration.state is State.QUEUED


@with_daemon()
async def test_a_clock_that_is_set_back_delays_no_duration(daemon: Daemon) -> None:
    duration = await daemon.submit("true", after="500ms")
    limited = await daemon.submit("sleep 1000", time="1s")
    moment = await daemon.submit("true", at=at(60))
    jump(-10 * HOUR)
    assert (await daemon.ended(duration)).state == "completed"
    status = await daemon.ended(limited)
    assert status.verdict is not None
    assert status.verdict["cause"] == "timeout"
    assert moment.state is State.QUEUED
    jump(10 * HOUR + 60)
    assert (await daemon.ended(moment)).state == "completed"


@with_daemon()
async def test_after_a_restart_neither(daemon: Daemon) -> None:
    duration = await daemon.submit("true", after="1s")
    await daemon.close()
    jump(-YEAR)
    await daemon.open()
    assert (await daemon.ended(await daemon.found(duration))).state == "completed"


@with_daemon()
async def test_of_the_matches_that_a_jump_passes_over_one_comes(daemon: Daemon) -> None:
    record = await daemon.submit("true", every="0 * * * *")
    jump(24 * HOUR)
    await daemon.when(record, lambda: record.attempt == 2)
    await asyncio.sleep(0.3)
    assert (record.state, record.attempt) == (State.QUEUED, 2)
    assert record.due_ns is not None
    assert time.time_ns() < record.due_ns <= time.time_ns() + HOUR * 10**9
    await daemon.close()
    jump(24 * HOUR)  # the daemon is down meanwhile
    await daemon.open()
    found = await daemon.found(record)
    await daemon.when(found, lambda: found.attempt == 3)
    await asyncio.sleep(0.3)
    assert (found.state, found.attempt) == (State.QUEUED, 3)
