"""How a job is taken on: checked, kept, and started when there is a place for it.

Whoever submits is told of a job only when it is durable. One that could start at once and is
refused by the host is as if it had never been; afterwards, a refusal is a job's verdict.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jobsup.isolation import JobsupError, reached

from ..embedded import new_id
from ..errors import NotReady, QuotaExceeded
from ..protocol import Started
from ..request import Request
from ..translate import Caller, translate, user_name
from .dispatch import Dispatcher
from .job import LiveJob
from .launcher import Attached
from .log import log
from .paths import Paths
from .quota import Quota
from .records import Record
from .schedule import first_due
from .settings import Settings
from .state import State

if TYPE_CHECKING:
    from .peer import Peer

_REQUESTS_MAX = 32 << 20  # bytes of an owner's unfinished requests: they are kept in memory
_RETRY_SECONDS = 5.0


class Intake:
    """Takes jobs on for one daemon.

    Attributes:
        ready: whether it does.
        quota: what its owners may keep.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        dispatch: Dispatcher,
        forget: Callable[[list[str]], Awaitable[None]],
    ) -> None:
        self.ready = True
        self.quota = Quota(settings, dispatch)
        self._settings = settings
        self._paths = paths
        self._dispatch = dispatch
        self._forget = forget
        self._taking: set[asyncio.Task[Started]] = set()
        self._queueing = asyncio.Lock()

    async def settled(self) -> None:
        """Until no job is half taken on."""
        while self._taking:
            await asyncio.wait(self._taking)

    async def submit(
        self, request: Request, peer: Peer, stdin: Path | None, attached: Attached | None
    ) -> Started:
        """Engine.submit."""
        try:
            await self.quota.require_room(peer.uid)
            # From here on without a pause: of a hundred submissions at once each is counted.
            self._require_jobs(peer.uid)
            job = self._new_job(request, peer, attached)
            self.quota.note_input(job, 0 if stdin is None else stdin.stat().st_size)  # noqa: ASYNC240 - our own
        except BaseException:
            if attached is not None:
                attached.close()
            raise
        reached("id-made")
        self._dispatch.jobs[job.record.id] = job
        task = self._dispatch.spawn(self._take(job, stdin))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return await asyncio.shield(task)

    # ---- whether it is taken

    def _require_jobs(self, uid: int) -> None:
        most = self._settings.owner_jobs
        count = sum(job.record.uid == uid for job in self._dispatch.jobs.values()) if uid else 0
        if uid != 0 and count >= most:
            raise QuotaExceeded(
                f"you have {count} unfinished jobs, and {most} is the most",
                hint="wait for one to end, or stop one",
            )
        own = (job for job in self._dispatch.jobs.values() if job.record.uid == uid)
        if uid != 0 and sum(job.weight for job in own) >= _REQUESTS_MAX:
            raise QuotaExceeded(
                f"the arguments and variables of your unfinished jobs take {_REQUESTS_MAX} bytes, "
                "which is the most",
                hint="give data through --stdin or a file, or wait for a job to end",
            )

    def _new_job(self, request: Request, peer: Peer, attached: Attached | None) -> LiveJob:
        if not self.ready:
            raise NotReady(
                "the daemon takes no new jobs", hint="root can change that: jobsup control ready"
            )
        if attached is None:
            request = self.quota.limited(request, peer.uid)
        job_id, now = new_id(), time.time_ns()
        caller = Caller(peer.uid, peer.gid, peer.groups, request.environment)
        # Looked up before anything is kept: who is not a user of this host is told so at once.
        walls, limits = translate(request.spec, job_id, caller, hidden=self._paths.hidden)
        self._dispatch.admission.require_possible(request.spec)
        record = Record(
            id=job_id,
            uid=peer.uid,
            gid=peer.gid,
            groups=peer.groups,
            user=user_name(walls.identity.uid),
            name=request.spec.name,
            request=request.to_plain(),
            argv=[argument.decode(errors="backslashreplace") for argument in request.spec.argv],
            queued_ns=now,
            boot_id=self._dispatch.boot,
            attached=attached is not None,
        )
        job = LiveJob(record, request, self._dispatch)
        job.attached = attached
        job.prepared = walls, limits
        return job

    # ---- from its id to its start

    async def _take(self, job: LiveJob, stdin: Path | None) -> Started:
        record, dispatch = job.record, self._dispatch
        told = False
        try:
            if stdin is not None:
                await dispatch.in_thread(lambda: dispatch.launcher.take_stdin(record.id, stdin))
                reached("stdin-kept")
            due = first_due(job.request, record.queued_ns)
            at_once = due is None and dispatch.enter_at_once(job)
            if at_once:
                record.state = State.STARTING
            else:
                job.prepared = None  # it is many, and users and groups may change meanwhile
                record.due_ns = due.when_ns if due else None
                record.reason = due.reason if due else "waits for a free place"
                await self._keep_queued(job)
            told = True  # as it is now, to who listens
            await dispatch.save(record)
        except BaseException as error:
            job.drop_attached()
            self._never_was(job, error)
            if told:
                dispatch.events.publish(record, time.time_ns())
            await dispatch.in_thread(lambda: dispatch.launcher.remove(record.id))
            raise
        reached("row-durable")
        if at_once:
            await self._launch_or_undo(job)
        else:
            dispatch.queue(job, due)
        reached("acknowledged")
        return Started(record.id, record.state.value)

    async def _keep_queued(self, job: LiveJob) -> None:
        """Before its row, as its input: what has no row was not acknowledged, and is removed. One
        after the other, so that they are queued in the order in which they came."""
        record, dispatch = job.record, self._dispatch
        async with self._queueing:
            await dispatch.in_thread(lambda: dispatch.launcher.keep_queued(record))
        reached("queued-kept")
        if dispatch.jobs.get(record.id) is not job:  # it was stopped meanwhile, and is over
            dispatch.launcher.forget_control(record.id)

    async def _launch_or_undo(self, job: LiveJob) -> None:
        try:
            await self._dispatch.launch(job)
        except Exception as error:
            self._never_was(job, error)
            self._dispatch.events.publish(job.record, time.time_ns())
            try:
                await self._forget([job.record.id])
            except JobsupError as full:
                log.error("what is left of a refused job", job=job.record.id, error=full)
                self._dispatch.spawn(self._forget_later(job.record.id))
            raise

    def _never_was(self, job: LiveJob, error: BaseException) -> None:
        """Nobody was told of the job yet; who looks at it already sees why."""
        job.move_to_rest(State.FAILED, str(error))
        self._dispatch.forget(job)
        self._dispatch.pump()

    async def _forget_later(self, job_id: str) -> None:
        while await self._dispatch.pause(_RETRY_SECONDS):
            try:
                await self._forget([job_id])
            except JobsupError:
                continue  # it was told that the disk is full
            return
