"""The face of the daemon's core: jobs are submitted, found, asked about and told what to do.

The engine is what the server calls, and tests call it as the server does. Driving the jobs is
dispatch's; what a restarted daemon finds is taken up by recovery.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsup.isolation import JobsupError, reached

from ..embedded import new_id
from ..errors import NotReady, QuotaExceeded, WrongState
from ..protocol import JobPage, JobStatus, PruneRequest, Started
from ..request import Request
from ..translate import Caller, translate, user_name
from . import recovery, views
from .admission import demand_of
from .changes import changed_request
from .dispatch import Dispatcher
from .finding import Finder
from .job import LiveJob
from .launcher import Attached
from .lock import StateLock
from .paths import Paths
from .records import Record
from .retention import Retention
from .schedule import first_due
from .settings import Settings
from .state import State
from .store import Store

if TYPE_CHECKING:
    from .peer import Peer

OUTPUT_MAX = 1 << 30  # bytes of a kept job that says nothing else


class Engine:
    """All jobs of one daemon. Everything here runs on the event loop.

    Attributes:
        ready: whether new jobs are taken.
    """

    def __init__(self, settings: Settings, paths: Paths, store: Store, lock: StateLock) -> None:
        self.settings = settings
        self.paths = paths
        self.store = store
        self.ready = True
        self.dispatch = Dispatcher(settings, paths, store)
        self.events = self.dispatch.events
        self.jobs = self.dispatch.jobs
        self._finder = Finder(store, self.jobs)
        self._retention = Retention(store, self.forget, settings.keep_usec)
        self._lock = lock

    @classmethod
    async def open(cls, settings: Settings) -> Engine:
        """Take the state's lock, open the records, and take up every job where it is.

        Raises:
            JobsupError: another daemon has the lock, the records cannot be used, or this host
                cannot run jobs.
        """
        paths = Paths(settings.lib, settings.run)
        paths.make()
        lock = StateLock(paths.lock)
        try:
            store = await Store.open(paths.database)
        except BaseException:
            lock.release()
            raise
        engine = cls(settings, paths, store, lock)
        try:
            engine.ready = await store.setting("ready") != "no"
            await recovery.recover(engine.dispatch)
        except BaseException:
            await engine.close()
            raise
        engine._retention.start()
        return engine

    async def close(self) -> None:
        """The daemon goes; its jobs go on."""
        self.ready = False
        await self._retention.stop()
        await self.dispatch.close()
        await self.store.close()
        self._lock.release()

    async def set_ready(self, ready: bool) -> None:
        """Whether new jobs are taken; remembered across restarts."""
        self.ready = ready
        await self.store.set_setting("ready", "yes" if ready else "no")

    async def terminate(self) -> None:
        """End every job and take no more; returns when the last one has ended."""
        self.ready = False
        for job in list(self.jobs.values()):
            if job.record.stop is None and job.unended:
                await self.stop(job.record)
        for job in list(self.jobs.values()):
            await self._until_ended(job)

    # ---- submission

    async def submit(
        self,
        request: Request,
        peer: Peer,
        *,
        stdin: Path | None = None,
        attached: Attached | None = None,
    ) -> Started:
        """Take a job on. Returns when that is durable, and when it starts at once, after its
        launch; what the host refuses then is raised and leaves nothing behind.

        Raises:
            JobsupError: it cannot be taken, or not be started.
        """
        try:
            await self._require_quota(peer.uid)
            job = self._new_job(request, peer, attached)
        except BaseException:
            if attached is not None:
                attached.close()
            raise
        return await asyncio.shield(self.dispatch.spawn(self._take(job, stdin)))

    def _new_job(self, request: Request, peer: Peer, attached: Attached | None) -> LiveJob:
        if not self.ready:
            raise NotReady("the supervisor takes no new jobs", hint="jobsup control ready")
        if request.spec.output_max is None and attached is None:
            capped = dataclasses.replace(request.spec, output_max=OUTPUT_MAX)
            request = dataclasses.replace(request, spec=capped)
        job_id, now = new_id(), time.time_ns()
        caller = Caller(peer.uid, peer.gid, peer.groups, request.environment)
        # Looked up before anything is kept: who is not a user of this host is told so at once.
        walls, _ = translate(request.spec, job_id, caller, hidden=self.paths.hidden)
        self.dispatch.admission.require_possible(request.spec)
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
            boot_id=self.dispatch.boot,
            attached=attached is not None,
        )
        job = LiveJob(record, request, self.dispatch)
        job.attached = attached
        return job

    async def _require_quota(self, uid: int) -> None:
        if uid == 0:
            return
        own = [job.record for job in self.jobs.values() if job.record.uid == uid]
        most = self.settings
        if len(own) >= most.owner_jobs:
            raise QuotaExceeded(
                f"you have {len(own)} unfinished jobs, and {most.owner_jobs} is the most",
                hint="wait for one to end, or stop one",
            )
        size = self.dispatch.launcher.spool_bytes
        live = await self.dispatch.in_thread(lambda: sum(size(record.id) for record in own))
        used = self.store.kept_bytes(uid) + live
        if used >= most.owner_bytes:
            raise QuotaExceeded(
                f"the output of your jobs takes {used} bytes, and {most.owner_bytes} is the most",
                hint="jobsup prune removes ended jobs",
            )

    async def _take(self, job: LiveJob, stdin: Path | None) -> Started:
        record = job.record
        reached("id-made")
        self.jobs[record.id] = job
        try:
            if stdin is not None:
                keep = self.dispatch.launcher.take_stdin
                await self.dispatch.in_thread(lambda: keep(record.id, stdin))
                reached("stdin-kept")
            due = first_due(job.request, record.queued_ns)
            at_once = due is None and self.dispatch.enter(job)
            if at_once:
                record.state = State.STARTING
            else:
                record.due_ns = due.when_ns if due else None
                record.reason = due.reason if due else "waits for a free place"
            await self.dispatch.save(record)
        except BaseException:
            job.drop_attached()
            self.dispatch.forget(job)
            raise
        reached("row-durable")
        if at_once:
            await self._launch_or_undo(job)
        elif due is not None:
            self.dispatch.queue(job, due)
        else:
            self.dispatch.pump()  # a place may have become free meanwhile
        reached("acknowledged")
        return Started(record.id, record.state.value)

    async def _launch_or_undo(self, job: LiveJob) -> None:
        try:
            await self.dispatch.launch(job)
        except JobsupError:
            # Nobody was told of the job yet: it never was.
            self.dispatch.forget(job)
            await self.forget([job.record.id])
            self.dispatch.pump()
            raise

    # ---- what people ask of a job

    async def find(self, ref: str, peer: Peer) -> Record:
        """The job that `ref` names to this peer: an id, the beginning of one, or a name.

        Raises:
            NoSuchJob: none, or none of theirs.
            Ambiguous: several.
        """
        return await self._finder.find(ref, peer)

    async def page(
        self,
        peer: Peer,
        *,
        state: str | None = None,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> JobPage:
        """Newest first, those of this peer."""
        return await self._finder.page(peer, state=state, name=name, limit=limit, after=after)

    async def status(self, record: Record) -> JobStatus:
        """All that is known of a job."""
        job = self.jobs.get(record.id)
        attempts = await self.store.attempts(record.id)
        return views.status(record, attempts, job.handle if job else None, self.paths)

    async def _until_ended(self, job: LiveJob) -> None:
        """Until that it has ended is durable, or there is no room to make it so."""
        while self.jobs.get(job.record.id) is job and not job.unsaved:
            await job.wait_change()

    async def wait(self, record: Record, timeout: float | None = None) -> JobStatus:  # noqa: ASYNC109 - ends without an error
        """Its status once it has ended, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                if (job := self.jobs.get(record.id)) is not None:
                    await self._until_ended(job)
        except TimeoutError:
            pass
        return await self.status(record)

    def spool(self, record: Record, attempt: int | None = None) -> views.SpoolView:
        """The output of one attempt, the present one unless said."""
        job = self.jobs.get(record.id)
        return views.SpoolView(self.paths, record, attempt or record.attempt, job)

    def _live(self, record: Record) -> LiveJob:
        job = self.jobs.get(record.id)
        if job is None or not job.unended:
            message = (record.verdict or {}).get("message")
            told = f"job {record.id} has ended ({record.state.value})"
            raise WrongState(f"{told}: {message}" if message else told)
        return job

    async def stop(
        self, record: Record, signal_number: int | None = None, grace_ms: int | None = None
    ) -> None:
        """Ask it to end, and kill it after its grace. Durable when this returns.

        Raises:
            WrongState: it has ended.
        """
        job = self._live(record)
        number = int(signal.SIGTERM) if signal_number is None else signal_number
        grace = job.request.spec.grace // 1000 if grace_ms is None else grace_ms
        await self._end(job, number, grace)

    async def kill(self, record: Record) -> None:
        """Kill every process of it. Durable when this returns.

        Raises:
            WrongState: it has ended.
        """
        await self._end(self._live(record), int(signal.SIGKILL), 0)

    async def _end(self, job: LiveJob, number: int, grace_ms: int) -> None:
        if job.record.state is not State.QUEUED:
            await job.stop(number, grace_ms)
            return
        asked_before = job.record.stop is not None
        job.record.stop = (number, grace_ms)
        if asked_before:  # it is on its way out of the queue
            await self._until_ended(job)
            return
        killed = number == signal.SIGKILL
        await self.dispatch.end_queued(job, "killed" if killed else "stopped")

    async def signal(self, record: Record, number: int) -> None:
        """Send a signal to its first process's group.

        Raises:
            WrongState: it does not run.
        """
        await self._live(record).signal(number)

    async def pause(self, record: Record) -> None:
        """Freeze it.

        Raises:
            WrongState: it does not run.
        """
        await self._live(record).pause()

    async def resume(self, record: Record) -> None:
        """Let it go on.

        Raises:
            WrongState: it does not run.
        """
        await self._live(record).resume()

    async def change(self, record: Record, options: dict[str, Any]) -> JobStatus:
        """Give it other limits: those of its leaf, and for its next attempts.

        Raises:
            WrongState: it has ended.
            BadValue, LimitNotEnforceable: nothing was changed.
        """
        job = self._live(record)
        request, limits = changed_request(job, options, self.paths)
        self.dispatch.admission.require_possible(request.spec)
        if (handle := job.handle) is not None:
            in_force = await self.dispatch.in_thread(lambda: handle.change(limits))
            job.record.limits |= in_force
            reached("limits-changed")
        elif job.record.state is not State.QUEUED:
            raise WrongState(f"job {record.id} is {record.state.value}", hint="try again")
        job.request = request
        job.record.request = request.to_plain()
        self.dispatch.admission.change(record.id, demand_of(request.spec))
        await self.dispatch.save(job.record)
        self.dispatch.pump()
        return await self.status(job.record)

    async def remove(self, record: Record, *, force: bool = False) -> None:
        """Forget an ended job: its record, its output. With `force`, kill it first.

        Raises:
            WrongState: it has not ended.
        """
        job = self.jobs.get(record.id)
        if job is not None and job.unended:
            if not force:
                raise WrongState(
                    f"job {record.id} is {record.state.value}", hint="stop it first, or rm --force"
                )
            await self.kill(record)
        if job is not None:
            await self._until_ended(job)
        await self.forget([record.id])

    async def forget(self, job_ids: list[str]) -> None:
        """Remove the records, then the files, of ended jobs."""
        await self.store.delete(job_ids)
        reached("row-deleted")
        remove = self.dispatch.launcher.remove
        for job_id in job_ids:
            await self.dispatch.in_thread(partial(remove, job_id))

    async def prune(self, peer: Peer, asked: PruneRequest) -> list[str]:
        """Forget this peer's jobs that ended some time ago; their ids."""
        return await self._retention.prune(peer, asked)
