"""A removal that makes the room for which the end of its job had waited."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobsup.supervisor.daemon.engine import Engine
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.lock import StateLock
from jobsup.supervisor.daemon.paths import Paths
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.daemon.store import Store
from jobsup.supervisor.request import Request


async def opened(root: Path) -> Engine:
    """One that looks for no jobs, and so needs nothing of the kernel."""
    settings = Settings(lib=root / "lib", run=root / "run", socket=root / "s")
    paths = Paths(settings.lib, settings.run)
    paths.make()
    lock = StateLock(paths.lock)
    return Engine(settings, paths, await Store.open(paths.database), lock)


def ended_unsaved(engine: Engine) -> LiveJob:
    request = Request.make(["true"], cwd="/")
    record = Record(
        id="job",
        uid=0,
        gid=0,
        user="root",
        request=request.to_plain(),
        queued_ns=1,
        ended_ns=2,
        state=State.COMPLETED,
    )
    job = engine.jobs["job"] = LiveJob(record, request, engine.dispatch)
    job.unsaved = True
    return job


def test_an_end_that_is_kept_as_its_output_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        engine = await opened(tmp_path)
        job = ended_unsaved(engine)

        def remove_output(_: str) -> None:
            """It is kept before it is known that all of the output is gone."""
            loop.call_soon_threadsafe(engine.dispatch.forget, job)

        monkeypatch.setattr(engine.dispatch.launcher, "remove_output", remove_output)
        async with asyncio.timeout(20):
            await engine.remove(job.record)
        assert engine.jobs == {}
        await engine.close()

    asyncio.run(body())
