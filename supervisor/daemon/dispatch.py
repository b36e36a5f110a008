"""The unfinished jobs of one daemon, each on its way: waiting, launched, watched, ended.

    queued ── due ──▶ admission ── a place ──▶ launch ──▶ LiveJob ──▶ run_ended ──▶ record
      ▲                                                                  │
      └───────────────────────── restart, every ─────────────────────────┘

Every launch follows a durable `starting`, so that a restarted daemon (recovery) knows which jobs
may have been launched. Everything here runs on the event loop; what blocks, in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from jobsup.isolation import JobsupError, Walls, reached

from ..errors import StorageFull
from ..request import Request
from ..verdict import Verdict, never_started
from .admission import Admission, demand_of
from .events import EventBus
from .job import LiveJob
from .launcher import Launcher
from .log import log
from .paths import Paths, boot_id
from .records import Record
from .schedule import Due, next_due, was_long
from .settings import Settings
from .state import State
from .store import Store
from .timers import WallClock

T = TypeVar("T")

# A launch is a vfork, most of which is the kernel's; and dead network namespaces are taken down by
# one worker of the kernel's, so more at a time would only pile them up.
_LAUNCHES = 4
_CONCLUSIONS = 16
_KEPT_ATTEMPTS = 10
_RETRY_SECONDS = 5.0
_STOPPED_EARLY = "{} on request, before it was started"


class Dispatcher:
    """Drives all unfinished jobs; `jobs` has them by id."""

    def __init__(self, settings: Settings, paths: Paths, store: Store) -> None:
        self.jobs: dict[str, LiveJob] = {}
        self.events = EventBus()
        self.store = store
        self.launcher = Launcher(paths)
        self.boot = boot_id()
        self.admission = Admission(settings.max_running, settings.memory, settings.cpus)
        self._loop = asyncio.get_running_loop()
        self._clock = WallClock(self._loop)
        self._delays: dict[str, asyncio.TimerHandle] = {}
        self._launches = ThreadPoolExecutor(_LAUNCHES, "launch")
        self._conclusions = ThreadPoolExecutor(_CONCLUSIONS, "conclude")
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    async def close(self) -> None:
        """Drive no job any further; they go on by themselves."""
        self.closing = True
        self.events.close()
        self._clock.close()
        for delay in self._delays.values():
            delay.cancel()
        # What has begun is ended: a launch must not go on beside the next daemon's.
        while tasks := self._unfinished_work():
            await asyncio.gather(*tasks, return_exceptions=True)
        for job in self.jobs.values():
            job.release()
        self._launches.shutdown()
        self._conclusions.shutdown()
        self.launcher.close()

    def _unfinished_work(self) -> list[asyncio.Task[Any]]:
        concluding = (job.concluding for job in self.jobs.values())
        return [*self._tasks, *(task for task in concluding if task is not None)]

    # ---- the queue

    def enter(self, job: LiveJob) -> bool:
        """Take a place, or stand in the queue; whether a place was taken."""
        return self.admission.enter(job.record.id, demand_of(job.request.spec))

    def admit_running(self, job: LiveJob) -> None:
        """Count a job that was launched by another daemon."""
        self.admission.force(job.record.id, demand_of(job.request.spec))

    def queue(self, job: LiveJob, due: Due | None) -> None:
        """Let a queued job wait for its time; without one it is due."""
        job_id = job.record.id
        if due is None:
            self._came_due(job)
        elif due.delay_ns is None:
            self._clock.call_at(job_id, due.when_ns, lambda: self._came_due(job))
        else:
            delay = self._loop.call_later(due.delay_ns / 1e9, self._came_due, job)
            self._delays[job_id] = delay

    def _came_due(self, job: LiveJob) -> None:
        self._delays.pop(job.record.id, None)
        if self.jobs.get(job.record.id) is not job or self.closing or job.record.stop is not None:
            return
        if self.enter(job):
            self._start(job)
        else:
            job.record.reason = "waits for a free place"
            job.wake()

    def pump(self) -> None:
        """Start what there is room for."""
        while not self.closing and (job_id := self.admission.next_admitted()) is not None:
            self._start(self.jobs[job_id])

    async def end_queued(self, job: LiveJob, cause: Literal["stopped", "killed"]) -> None:
        """Take a job out of the queue for good."""
        if (delay := self._delays.pop(job.record.id, None)) is not None:
            delay.cancel()
        self._clock.cancel(job.record.id)
        self.admission.leave(job.record.id)  # no place is to be given to it meanwhile
        job.drop_attached()
        await self.run_ended(job, self.not_started(job, cause, _STOPPED_EARLY.format(cause)))

    # ---- a launch

    def _start(self, job: LiveJob) -> None:
        """Launch a queued job, for which nobody waits."""
        job.record.boot_id = self.boot
        job.record.due_ns = None
        durable = job.move(State.STARTING)
        self.spawn(self._started(job, durable))

    async def _started(self, job: LiveJob, durable: Awaitable[None]) -> None:
        await durable
        reached("starting-durable")
        await self.launch_marked(job)

    async def launch_marked(self, job: LiveJob) -> None:
        """Launch a job whose `starting` is durable; what goes wrong is its verdict."""
        try:
            if job.record.stop is None:
                await self.launch(job)
                return
            verdict = self.not_started(job, "stopped", _STOPPED_EARLY.format("stopped"))
        except JobsupError as error:
            verdict = self.not_started(job, "setup", str(error), error.hint)
        job.drop_attached()
        await self.run_ended(job, verdict)

    async def launch(self, job: LiveJob) -> None:
        """Launch a job whose `starting` is durable.

        Raises:
            JobsupError: no process of it is left.
        """
        record, request = job.record, job.request
        attached = job.take_attached()
        handle = await self._loop.run_in_executor(
            self._launches, lambda: self.launcher.start(record, request, attached)
        )
        reached("launched")
        job.follow(handle)

    def not_started(
        self,
        job: LiveJob,
        cause: Literal["stopped", "killed", "setup"],
        message: str,
        hint: str | None = None,
    ) -> Verdict:
        """The verdict on a job for which no init was made."""
        return never_started(
            job.request.spec,
            job.record.id,
            cause,
            message,
            hint,
            user=job.record.user,
            queued_ns=job.record.queued_ns,
            ended_ns=time.time_ns(),
        )

    # ---- the end of a run

    async def run_ended(self, job: LiveJob, verdict: Verdict) -> None:
        """A run is over: keep how it ended; start the job again, or let it rest."""
        record = job.record
        record.ended_ns = time.time_ns()
        record.verdict = verdict.to_dict()
        record.output_bytes = await self.in_thread(lambda: self.launcher.spool_bytes(record.id))
        job.pauses = 0 if was_long(record) else job.pauses
        due = next_due(record, job.request, record.ended_ns, job.pauses)
        self.admission.leave(record.id)
        if due is None:
            job.move_to_rest(State(verdict.state), verdict.message)
            await self._keep_end(job)
            self.forget(job)
            reached("control-removed")
            job.wake()
        else:
            await self._again(job, due)
        self.pump()

    def _save_end(self, job: LiveJob) -> Awaitable[Any]:
        record = job.record
        assert record.verdict is not None
        run = (record.started_ns, record.ended_ns, record.verdict, record.limits)
        kept = self.store.save_attempt(record.id, record.attempt, *run)
        return asyncio.gather(kept, self.save(record))

    async def _keep_end(self, job: LiveJob) -> None:
        """Make its end durable. While there is no room for it, it is kept in memory: the init's own
        record says the same to the next daemon."""
        while True:
            try:
                await self._save_end(job)
            except StorageFull as error:
                if not job.unsaved:
                    log.error("the end of a job cannot be kept yet", job=job.record.id, error=error)
                job.unsaved = True
                job.wake()
                if self.closing:
                    return
                await asyncio.sleep(_RETRY_SECONDS)  # nothing tells when a disk has room again
            else:
                job.unsaved = False
                reached("verdict-durable")
                return

    async def _again(self, job: LiveJob, due: Due) -> None:
        record = job.record
        kept = self.store.save_attempt(
            record.id,
            record.attempt,
            record.started_ns,
            record.ended_ns,
            record.verdict,
            record.limits,
        )
        self.launcher.forget_control(record.id)
        job.pauses += 1
        # The next attempt begins with nothing of the last but its verdict.
        record.attempt += 1
        record.started_ns = record.ended_ns = None
        record.limits = {}
        record.due_ns = due.when_ns
        await asyncio.gather(kept, job.move(State.QUEUED, due.reason))
        reached("again-durable")
        oldest = record.attempt - _KEPT_ATTEMPTS
        if oldest > 1:
            await self.store.delete_attempts(record.id, oldest)
            await self.in_thread(lambda: self.launcher.forget_attempts(record.id, oldest))
        self.queue(job, due)

    def forget(self, job: LiveJob) -> None:
        """It has ended, or never was: drive it no more."""
        self.jobs.pop(job.record.id, None)
        self.admission.leave(job.record.id)
        self.launcher.forget_control(job.record.id)

    # ---- what the jobs share (job.Crew)

    def save(self, record: Record) -> Awaitable[None]:
        """Make the record durable, as it is now, and tell who listens."""
        self.events.publish(record, time.time_ns())
        return self.store.save(record)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks beside the loop."""
        return await self._loop.run_in_executor(self._conclusions, call)

    def walls(self, record: Record, request: Request) -> Walls:
        """What the job's walls are, for the words in which a failed step is told."""
        return self.launcher.walls(record, request)

    def failed(self, job: LiveJob, error: BaseException) -> None:
        """What has nobody to be raised to goes to the log."""
        log.error("a job's event failed", job=job.record.id, error=error)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """See it through, also when a client goes away in the middle: what is half made by then
        would be nobody's."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, JobsupError):  # that is told to who asked
            log.error("a task failed", error=error)
