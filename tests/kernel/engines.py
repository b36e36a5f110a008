"""A daemon's engine in the test's own process, with real jobs: no server, no client.

    @with_daemon(max_running=1)
    async def test_something(daemon: Daemon) -> None: ...

is a test whose daemon has a state directory of its own. At its end every job is ended, and what a
daemon keeps of unfinished jobs must be gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from jobsup.supervisor.daemon.engine import Engine
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.launcher import Attached
from jobsup.supervisor.daemon.peer import Peer
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.protocol import JobStatus
from jobsup.supervisor.request import Request
from tests.machine import PATIENCE, Leaf, leaves

T = TypeVar("T")

ROOT = Peer(0, 0, (0,), 1)
NOBODY = Peer(65534, 65534, (), 2)
BIN = Peer(2, 2, (), 3)
GOES_ON = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
IGNORES = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


class Daemon:
    """An engine and what is asked of it all the time."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self._settings = settings
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "it is closed"
        return self._engine

    @property
    def settings(self) -> Settings:
        return Settings.make(state=self.directory, **self._settings)

    async def open(self, **changed: Any) -> None:  # noqa: ANN401 - those of Settings.make
        self._settings |= changed
        self._engine = await Engine.open(self.settings)

    async def close(self) -> None:
        engine, self._engine = self.engine, None
        await engine.close()

    async def reopen(self, **changed: Any) -> None:  # noqa: ANN401
        """As after `systemctl restart`."""
        await self.close()
        await self.open(**changed)

    async def end(self) -> None:
        """End all jobs; nothing of theirs is left in memory."""
        if self._engine is not None:
            engine = self._engine
            await engine.terminate()
            await self.close()
            assert_empty(engine)

    # ---- jobs

    async def submit(
        self,
        script: str,
        peer: Peer = ROOT,
        *,
        stdin: Path | None = None,
        attached: Attached | None = None,
        **options: Any,  # noqa: ANN401 - those of Request.make
    ) -> Record:
        request = Request.make(["sh", "-c", script], **{"cwd": "/", **options})
        started = await self.engine.submit(request, peer, stdin=stdin, attached=attached)
        return await self.engine.find(started.id, peer)

    async def running(self, script: str, peer: Peer = ROOT, **options: Any) -> Record:  # noqa: ANN401
        """A job whose command has written its first line."""
        record = await self.submit(script, peer, **options)
        await self.begun(record)
        return record

    async def begun(self, record: Record) -> None:
        """Until its command, of this attempt, has written its first line."""
        await self.until(record, State.RUNNING)
        await asyncio.to_thread(wait_output, self.spool(record) / "stdout")

    async def ended(self, record: Record) -> JobStatus:
        status = await self.engine.wait(record)
        assert record.id not in self.engine.jobs
        return status

    async def run(self, script: str, peer: Peer = ROOT, **options: Any) -> JobStatus:  # noqa: ANN401
        return await self.ended(await self.submit(script, peer, **options))

    async def until(self, record: Record, *states: State) -> None:
        await self.when(record, lambda: record.state in states)

    async def when(self, record: Record, reached: Callable[[], bool]) -> None:
        """Until something is so of an unfinished job."""
        while not reached():
            await self.job(record).wait_change()

    def job(self, record: Record) -> LiveJob:
        return self.engine.jobs[record.id]

    async def found(self, record: Record) -> Record:
        """The same job as this daemon knows it, that an earlier one was asked for."""
        return await self.engine.find(record.id, ROOT)

    # ---- what is on the disk

    def spool(self, record: Record, attempt: int | None = None) -> Path:
        return self.engine.spool(record, attempt).directory

    def output(self, record: Record, attempt: int | None = None) -> bytes:
        return (self.spool(record, attempt) / "stdout").read_bytes()

    def files(self) -> set[str]:
        """The ids of the jobs that left anything in the state directory."""
        places = ("lib/jobs", "lib/incoming", "run/control", "run/records")
        return {name for place in places for name in os.listdir(self.directory / place)}

    async def rows(self) -> set[str]:
        page = await self.engine.page(ROOT, limit=1000)
        return {job.id for job in page.jobs}


def assert_empty(engine: Engine) -> None:
    """Nothing grows with the jobs that have ended."""
    dispatch = engine.dispatch
    kept = (engine.jobs, dispatch._delays, dispatch._tasks, dispatch._impossible)
    assert [len(held) for held in kept] == [0, 0, 0, 0]
    assert (dispatch.admission.running, dispatch.admission.waiting) == (0, 0)
    assert len(dispatch._clock._calls) == 0


def wait_output(path: Path) -> None:
    """Until a line has been written."""
    with open(path, "rb") as file:
        while b"\n" not in file.read():
            os.sched_yield()
            file.seek(0)


async def turn_until(reached: Callable[[], T]) -> T:
    """What `reached` gives, once it gives something: for the moments that nothing tells of."""
    while not (found := reached()):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return found


def leaf_of(record: Record) -> Leaf:
    assert record.id in leaves()
    return Leaf.of(record.id)


def message(status: JobStatus) -> str:
    assert status.verdict is not None
    told = status.verdict["message"]
    assert isinstance(told, str)
    return told


Body = Callable[[Daemon], Awaitable[None]]


def run(directory: Path, body: Body, settings: dict[str, Any]) -> None:
    """Run `body` with a daemon of its own."""

    async def main() -> None:
        daemon = Daemon(directory, settings)
        async with asyncio.timeout(PATIENCE):
            await daemon.open()
            try:
                await body(daemon)
            finally:
                await daemon.end()

    asyncio.run(main())


def with_daemon(**settings: Any) -> Callable[[Body], Callable[[Path], None]]:  # noqa: ANN401
    """Make a test of a coroutine; `settings` are those of Settings.make."""

    def decorate(body: Body) -> Callable[[Path], None]:
        def test(tmp_path: Path) -> None:
            run(tmp_path / "state", body, dict(settings))

        test.__name__ = body.__name__
        test.__doc__ = body.__doc__
        return test

    return decorate
