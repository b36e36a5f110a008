"""The dispatcher with a store that is made up: what it does about a disk without room, which the
real one cannot be given and taken at a certain save."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from jobsup.supervisor.daemon.dispatch import Dispatcher, _places
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.paths import Paths
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.daemon.store import Store
from jobsup.supervisor.errors import StorageFull
from jobsup.supervisor.request import Request

STOP = (15, 0)


class Disk:
    """Stands for the Store. A save ends when the test lets it."""

    def __init__(self) -> None:
        self.saves: list[asyncio.Future[None]] = []

    def save(self, _record: Record, *, soon: bool = False) -> Awaitable[None]:
        assert not soon
        self.saves.append(asyncio.get_running_loop().create_future())
        return self.saves[-1]

    def release(self) -> None:
        """Nothing waits for it any more."""
        for save in self.saves:
            if not save.done():
                save.set_result(None)

    async def asked(self, count: int) -> None:
        """Until that many saves are waited for."""
        while len(self.saves) < count:  # noqa: ASYNC110 - who saves is on this loop
            await asyncio.sleep(0)


def run(root: Path, body: Callable[[Dispatcher, LiveJob, Disk], Awaitable[None]]) -> None:
    async def main() -> None:
        paths, disk = Paths(root / "lib", root / "run"), Disk()
        paths.make()
        dispatch = Dispatcher(Settings(), paths, cast(Store, disk))
        record = Record(id="j", uid=0, gid=0, queued_ns=1, stop=STOP)
        job = dispatch.jobs["j"] = LiveJob(record, Request.make(["true"], cwd="/"), dispatch)
        try:
            async with asyncio.timeout(60):
                await body(dispatch, job, disk)
        finally:
            disk.release()
            await dispatch.close()

    asyncio.run(main())


def test_a_stop_in_the_queue_is_refused_only_when_itself_cannot_be_kept(tmp_path: Path) -> None:
    async def body(dispatch: Dispatcher, job: LiveJob, disk: Disk) -> None:
        job.unsaved = True  # that it waits could not be kept
        stopping = asyncio.create_task(dispatch.end_queued(job))
        await disk.asked(1)
        assert not stopping.done()
        disk.saves[0].set_result(None)
        await stopping
        assert (job.record.state, dispatch.jobs) == (State.STOPPED, {})

    run(tmp_path, body)


def test_nor_by_an_earlier_save_that_fails_meanwhile(tmp_path: Path) -> None:
    async def body(dispatch: Dispatcher, job: LiveJob, disk: Disk) -> None:
        def save() -> Awaitable[None]:
            return disk.save(job.record)

        waiting = asyncio.create_task(dispatch._keep(job, save(), save))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(dispatch.end_queued(job))
        await disk.asked(2)
        disk.saves[0].set_exception(StorageFull("no room"))
        assert not await waiting
        disk.saves[1].set_result(None)
        await stopping

    run(tmp_path, body)


def test_and_is_refused_then(tmp_path: Path) -> None:
    async def body(dispatch: Dispatcher, job: LiveJob, disk: Disk) -> None:
        stopping = asyncio.create_task(dispatch.end_queued(job))
        await disk.asked(1)
        disk.saves[0].set_exception(StorageFull("no room"))
        with pytest.raises(StorageFull, match="does not wait any more"):
            await stopping

    run(tmp_path, body)


def test_as_many_jobs_as_descriptors_allow() -> None:
    possible = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 6
    assert _places(Settings()) == _places(Settings(max_running=1 << 40)) == possible
    assert _places(Settings(max_running=1)) == 1
