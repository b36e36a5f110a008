"""Ended jobs are forgotten: one by one, the old ones, and as they end."""

from __future__ import annotations

import asyncio

import pytest

from jobsup.supervisor.errors import NoSuchJob, WrongState
from jobsup.supervisor.protocol import PruneRequest
from tests.kernel.engines import GOES_ON, IGNORES, ROOT, Daemon, turn_until, with_daemon


@with_daemon()
async def test_only_ended_jobs_are_removed_unless_forced(daemon: Daemon) -> None:
    record = await daemon.running(IGNORES)
    with pytest.raises(WrongState, match="is running"):
        await daemon.engine.remove(record)
    await asyncio.gather(*(daemon.engine.remove(record, force=True) for _ in range(3)))
    assert daemon.files() == set()
    with pytest.raises(NoSuchJob):
        await daemon.engine.find(record.id, ROOT)
    queued = await daemon.submit("true", after="1h")
    await daemon.engine.remove(queued, force=True)
    assert await daemon.rows() == set()


@with_daemon()
async def test_a_removal_as_the_job_ends(daemon: Daemon) -> None:
    for turns in range(8):
        record = await daemon.submit("exit 0")
        job = daemon.job(record)
        while job.concluding is None:
            await job.wait_change()
        for _ in range(turns):
            await asyncio.sleep(0)
        await daemon.engine.remove(record, force=True)
        assert daemon.files() == await daemon.rows() == set()


@with_daemon()
async def test_prune_takes_what_is_old_enough(daemon: Daemon) -> None:
    ended = [await daemon.submit(script) for script in ("exit 0", "exit 1")]
    for record in ended:
        await daemon.ended(record)
    alive = await daemon.running(GOES_ON)
    assert await daemon.engine.prune(ROOT, PruneRequest(older="1h")) == []
    assert await daemon.engine.prune(ROOT, PruneRequest(state="failed")) == [ended[1].id]
    assert await daemon.engine.prune(ROOT, PruneRequest()) == [ended[0].id]
    assert daemon.files() == await daemon.rows() == {alive.id}


@with_daemon(keep="0s")
async def test_what_is_kept_no_longer_goes_at_the_next_start(daemon: Daemon) -> None:
    await daemon.run("true")
    alive = await daemon.running(GOES_ON)
    await daemon.reopen()
    await turn_until(lambda: daemon.files() == {alive.id})
    assert await daemon.rows() == {alive.id}  # which went first
