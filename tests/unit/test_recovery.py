"""What a restarted daemon does about a job when the host is short of something, with a job and a
dispatcher that are made up: descriptors cannot be used up for one call only."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TypeVar, cast

from jobsup.isolation import Job, LaunchFailed
from jobsup.supervisor.daemon.dispatch import Dispatcher
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.recovery import _launch_again
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.request import Request

T = TypeVar("T")


class Remains:
    """Stands for the Job of a launch that was cut short."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self._used = False

    def conclude(self, _walls: None) -> None:
        assert not self._used
        self._used = True
        if self._error is not None:
            raise self._error


class Short:
    """Stands for the dispatcher."""

    def __init__(self, *remains: Remains) -> None:
        self._remains = list(remains)
        self.closing = False
        self.said: list[str] = []

    def reach(self, _record: Record) -> Remains:
        return self._remains.pop(0)

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, call)

    async def pause(self, _seconds: float) -> bool:
        self.said.append("pause")
        return not self.closing

    def failed(self, job: LiveJob, _error: BaseException) -> None:
        self.said.append(f"failed {job.record.state.value}")

    async def launch_marked(self, job: LiveJob) -> None:
        self.said.append(f"launch {job.record.reason}")


def launch_again(dispatch: Short, remains: Remains) -> LiveJob:
    async def main() -> LiveJob:
        record = Record(id="j", uid=0, gid=0, queued_ns=1, state=State.STARTING)
        job = LiveJob(record, Request.make(["true"], cwd="/"), cast(Dispatcher, dispatch))
        await _launch_again(cast(Dispatcher, dispatch), job, cast(Job, remains))
        return job

    return asyncio.run(main())


def test_a_launch_that_was_cut_short_is_made_when_it_can_be() -> None:
    stuck = Remains(LaunchFailed("a process sleeps in the kernel"))
    dispatch = Short(stuck, Remains(None))
    launch_again(dispatch, Remains(OSError(errno.EMFILE, "too many open files")))
    assert dispatch.said == ["failed starting", "pause"] * 2 + ["launch None"]


def test_a_daemon_that_goes_leaves_it_to_the_next_one() -> None:
    dispatch = Short()
    dispatch.closing = True
    job = launch_again(dispatch, Remains(LaunchFailed("a process sleeps in the kernel")))
    assert dispatch.said == ["failed starting", "pause"]
    assert job.record.state is State.STARTING
    assert "a process sleeps in the kernel" in (job.record.reason or "")
