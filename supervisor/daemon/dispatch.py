"""The unfinished jobs of one daemon, each on its way: waiting, launched, watched, ended.

    queued ── due ──▶ admission ── a place ──▶ launch ──▶ LiveJob ──▶ run_ended ──▶ record
      ▲                                                                  │
      └───────────────────────── restart, every ─────────────────────────┘

Every launch follows a durable `starting`, so that a restarted daemon (recovery) knows which jobs
may have been launched. Everything here runs on the event loop; what blocks, in threads.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from jobsup.isolation import Job, JobsupError, Walls, reached

from ..errors import BadValue, StorageFull
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
_DESCRIPTORS_A_JOB = 3  # its init's pidfd and socket, and its leaf
KEPT_ATTEMPTS = 10
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
        self.admission = Admission(_places(settings), settings.memory, settings.cpus)
        self._loop = asyncio.get_running_loop()
        self._clock = WallClock(self._loop)
        self._delays: dict[str, asyncio.TimerHandle] = {}
        self._impossible: set[str] = set()  # due, and beyond what the budgets are now
        self._nudged = asyncio.Event()
        self._launches = ThreadPoolExecutor(_LAUNCHES, "launch")
        self._conclusions = ThreadPoolExecutor(_CONCLUSIONS, "conclude")
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    async def close(self) -> None:
        """Drive no job any further; they go on by themselves."""
        self.closing = True
        self.nudge()
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

    def enter_at_once(self, job: LiveJob) -> bool:
        """Take a place if there is one and nobody waits for it."""
        return self.admission.take(job.record.id, demand_of(job.request.spec))

    def admit_running(self, job: LiveJob) -> None:
        """Count a job that was launched by another daemon."""
        self.admission.force(job.record.id, demand_of(job.request.spec))

    def queue(self, job: LiveJob, due: Due | None) -> None:
        """Let a queued job wait for its time; without one it is due."""
        job_id = job.record.id
        if not self._waits(job):
            return
        if due is None:
            self._came_due(job)
        elif due.delay_ns is None:
            self._clock.call_at(job_id, due.when_ns, lambda: self._came_due(job))
        else:
            delay = self._loop.call_later(due.delay_ns / 1e9, self._came_due, job)
            self._delays[job_id] = delay

    def _came_due(self, job: LiveJob) -> None:
        self._delays.pop(job.record.id, None)
        if not self._waits(job):
            return
        try:
            self.admission.require_possible(job.request.spec)
        except BadValue as error:
            # The budgets were larger when it was taken. In the queue it would hold up all others.
            self._impossible.add(job.record.id)
            job.record.reason = f"cannot start: {error}"
        else:
            self._impossible.discard(job.record.id)
            if self.admission.enter(job.record.id, demand_of(job.request.spec)):
                self._start(job)
                return
            job.record.reason = "waits for a free place"
        job.wake()

    def _waits(self, job: LiveJob) -> bool:
        """Whether it is still to be started: meanwhile it may have been stopped."""
        record = job.record
        known = self.jobs.get(record.id) is job and not self.closing
        return known and record.state is State.QUEUED and record.stop is None

    def changed(self, job: LiveJob) -> None:
        """Its limits are others now: it may be possible, and others may have room."""
        self.admission.change(job.record.id, demand_of(job.request.spec))
        if job.record.id in self._impossible:
            self._came_due(job)
        self.pump()

    def pump(self) -> None:
        """Start what there is room for."""
        while not self.closing and (job_id := self.admission.next_admitted()) is not None:
            self._start(self.jobs[job_id])

    async def end_queued(self, job: LiveJob) -> None:
        """Take a job that was asked to stop out of the queue for good.

        Raises:
            StorageFull: a restarted daemon would start it.
        """
        if (delay := self._delays.pop(job.record.id, None)) is not None:
            delay.cancel()
        self._clock.cancel(job.record.id)
        job.drop_attached()
        ending = self.spawn(self._decided(job, self._stopped_early(job)))
        ending.add_done_callback(lambda _: job.wake())
        while not ending.done() and not job.unsaved:
            await job.wait_change()
        if job.unsaved:
            raise StorageFull(
                f"job {job.record.id} does not wait any more, and that cannot be written down",
                hint="make room, or it is started when the supervisor is",
            )
        await ending

    # ---- a launch

    def _start(self, job: LiveJob) -> None:
        """Launch a queued job, for which nobody waits."""
        job.record.boot_id = self.boot
        job.record.due_ns = None
        durable = job.move(State.STARTING)
        self.spawn(self._started(job, durable))

    async def _started(self, job: LiveJob, durable: Awaitable[None]) -> None:
        kept = await self._keep(job, durable, lambda: self.store.save(job.record))
        if not kept and job.record.stop is None:
            return
        reached("starting-durable")
        await self.launch_marked(job)

    async def launch_marked(self, job: LiveJob) -> None:
        """Launch a job whose `starting` is durable; what goes wrong is its verdict."""
        try:
            if job.record.stop is None:
                await self.launch(job)
                return
            verdict = self._stopped_early(job)
        except JobsupError as error:
            verdict = self.not_started(job, "setup", str(error), error.hint)
        except Exception as error:  # noqa: BLE001 - a bug; the job must not wait for ever
            self.failed(job, error)
            verdict = self.not_started(job, "setup", f"{type(error).__name__}: {error}")
        job.drop_attached()
        await self.run_ended(job, verdict)

    async def launch(self, job: LiveJob) -> None:
        """Launch a job whose `starting` is durable.

        Raises:
            JobsupError: no process of it is left.
        """
        record, request = job.record, job.request
        attached, prepared = job.take_attached(), job.take_prepared()
        handle = await self._loop.run_in_executor(
            self._launches, lambda: self.launcher.start(record, request, attached, prepared)
        )
        reached("launched")
        job.follow(handle)

    def _stopped_early(self, job: LiveJob) -> Verdict:
        assert job.record.stop is not None
        killed = job.record.stop[0] == signal.SIGKILL
        cause: Literal["stopped", "killed"] = "killed" if killed else "stopped"
        return self.not_started(job, cause, _STOPPED_EARLY.format(cause))

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
        await self._decided(job, verdict)

    def _decided(self, job: LiveJob, verdict: Verdict) -> Coroutine[Any, Any, None]:
        """Decide at once what becomes of the job: who asks for a stop from here on comes too late,
        or finds it in the queue. What is returned keeps that."""
        record = job.record
        record.ended_ns = time.time_ns()
        record.verdict = verdict.to_dict()
        job.unsaved = False  # that an earlier state could not be kept says nothing of this one
        job.pauses = 0 if was_long(record) else job.pauses
        due = next_due(record, job.request, record.ended_ns, job.pauses)
        self.admission.leave(record.id)
        self.pump()
        if due is not None:
            return self._again(job, due)
        job.move_to_rest(State(verdict.state), verdict.message)
        return self._rest(job)

    async def _rest(self, job: LiveJob) -> None:
        """Make its end durable. While there is no room for it, it is kept in memory: the init's own
        record says the same to the next daemon."""
        record = job.record
        # A few calls of stat(2): less than the way to a thread and back.
        record.output_bytes = self.launcher.spool_bytes(record.id)
        if await self._keep(job, self.save(record), lambda: self.store.save(record)):
            reached("verdict-durable")
            self.forget(job)
            reached("control-removed")

    async def _again(self, job: LiveJob, due: Due) -> None:
        record = job.record
        run = (record.started_ns, record.ended_ns, record.verdict, record.limits)
        save_run = partial(self.store.save_attempt, record.id, record.attempt, *run)
        self.launcher.forget_control(record.id)
        job.pauses += 1
        # The next attempt begins with nothing of the last but its verdict.
        record.attempt += 1
        record.started_ns = record.ended_ns = None
        record.limits = {}
        record.due_ns = due.when_ns
        first = asyncio.gather(save_run(), job.move(State.QUEUED, due.reason))
        job.gone = False  # and with output to come
        if not await self._keep(
            job, first, lambda: asyncio.gather(save_run(), self.store.save(record))
        ):
            return
        reached("again-durable")
        self.queue(job, due)
        await self._trim(record.id, record.attempt - KEPT_ATTEMPTS)

    async def _trim(self, job_id: str, oldest: int) -> None:
        """Of a job that is run again and again the last runs are kept."""
        if oldest > 1:
            await self.store.delete_attempts(job_id, oldest)
            await self.in_thread(lambda: self.launcher.forget_attempts(job_id, oldest))

    async def _keep(
        self, job: LiveJob, first: Awaitable[Any], again: Callable[[], Awaitable[Any]]
    ) -> bool:
        """Until what was saved is durable, however long there is no room for it. False: the daemon
        goes, or the job has moved on, and its next state is kept instead."""
        state = job.record.state
        saved = first
        while True:
            try:
                await saved
            except Exception as error:  # noqa: BLE001 - whatever it is, the job must not hang
                if job.record.state is not state:
                    return False
                if not job.unsaved:
                    self.failed(job, error)
            else:
                job.unsaved = False
                return True
            job.unsaved = True
            job.wake()
            # Nothing tells when a disk has room again.
            goes_on = await self.pause(_RETRY_SECONDS)
            if (
                not goes_on
                or job.record.state is not state
                or self.jobs.get(job.record.id) is not job
            ):
                return False
            saved = again()

    def forget(self, job: LiveJob) -> None:
        """It has ended, or never was: drive it no more."""
        self.jobs.pop(job.record.id, None)
        self._impossible.discard(job.record.id)
        self.admission.leave(job.record.id)
        self.launcher.forget_control(job.record.id)
        job.wake()

    # ---- what the jobs share (job.Crew)

    def save(self, record: Record, *, soon: bool = False) -> Awaitable[None]:
        """Make the record durable, as it is now, and tell who listens."""
        self.events.publish(record, time.time_ns())
        return self.store.save(record, soon=soon)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks beside the loop."""
        return await self._loop.run_in_executor(self._conclusions, call)

    async def pause(self, seconds: float) -> bool:
        """Let time pass, or less when there may be room on the disk again; False at once when the
        daemon goes."""
        if not self.closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._nudged.wait()
        return not self.closing

    def nudge(self) -> None:
        """Let what waits for better times look again now."""
        self._nudged.set()
        self._nudged = asyncio.Event()

    def reach(self, record: Record) -> Job:
        """A new handle of a run whose handle was used up."""
        return self.launcher.reach(record)[1]

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


def _places(settings: Settings) -> int:
    """How many jobs may live at once. Half of what this process may open is for them: when all
    places are taken, there have to be connections to stop one by, and a restarted daemon must be
    able to take all of them up."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, descriptors // 2 // _DESCRIPTORS_A_JOB)
    return possible if settings.max_running is None else min(possible, settings.max_running)
