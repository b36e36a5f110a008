"""The face of the daemon's core: jobs are submitted, found, asked about and told what to do.

The engine is what the server calls, and tests call it as the server does. Driving the jobs is
dispatch's; what a restarted daemon finds is taken up by recovery.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobsup.isolation import reached

from ..errors import StorageFull, WrongState
from ..protocol import JobPage, JobStatus, PruneRequest, Started
from ..request import Request
from . import recovery, views
from .changes import changed_request
from .dispatch import Dispatcher
from .finding import Finder
from .intake import Intake
from .job import LiveJob
from .launcher import Attached
from .lock import StateLock
from .log import log
from .paths import Paths
from .quota import Upload
from .records import Record
from .retention import Retention
from .settings import Settings
from .state import State
from .store import Store

if TYPE_CHECKING:
    from .peer import Peer

T = TypeVar("T")


class Engine:
    """All jobs of one daemon. Everything here runs on the event loop."""

    def __init__(self, settings: Settings, paths: Paths, store: Store, lock: StateLock) -> None:
        self.settings = settings
        self.paths = paths
        self.store = store
        self.dispatch = Dispatcher(settings, paths, store)
        self.events = self.dispatch.events
        self.jobs = self.dispatch.jobs
        self._finder = Finder(store, self.jobs)
        self._retention = Retention(store, self.forget, settings.keep_usec)
        self._intake = Intake(settings, paths, self.dispatch, self.forget)
        self._lock = lock

    @property
    def ready(self) -> bool:
        """Whether new jobs are taken."""
        return self._intake.ready

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
            engine._intake.ready = await store.setting("ready") != "no"
            await recovery.recover(engine.dispatch)
        except BaseException:
            await engine.close()
            raise
        engine._retention.start()
        return engine

    async def close(self) -> None:
        """The daemon goes; its jobs go on."""
        self._intake.ready = False
        async with AsyncExitStack() as stack:
            stack.callback(self._lock.release)
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.dispatch.close)
            await self._retention.stop()

    async def set_ready(self, ready: bool) -> None:
        """Whether new jobs are taken; remembered across restarts."""
        self._intake.ready = ready
        await self.store.set_setting("ready", "yes" if ready else "no")

    async def terminate(self) -> None:
        """End every job and take no more; returns when the last one has ended."""
        self._intake.ready = False
        await self._intake.settled()
        jobs = list(self.jobs.values())
        stops = [self.stop(job.record) for job in jobs if job.unended and not job.record.stop]
        for error in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, WrongState):
                log.error("a job cannot be stopped", error=error)
        for job in jobs:
            await self._until_ended(job)

    async def _sure(self, work: Coroutine[Any, Any, T]) -> T:
        """See it through, also when who asked goes away in the middle."""
        return await asyncio.shield(self.dispatch.spawn(work))

    # ---- submission

    def uploading(self, peer: Peer) -> AbstractContextManager[Upload]:
        """For as long as the input of a job is received and the job has not got it.

        Raises:
            QuotaExceeded: this owner sends too many at once.
        """
        return self._intake.quota.uploading(peer)

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
        return await self._intake.submit(request, peer, stdin, attached)

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
        earlier = await self.store.attempts(record.id) if record.attempt > 1 else []
        return views.status(record, earlier, job.handle if job else None, self.paths)

    async def _until_ended(self, job: LiveJob) -> None:
        """Until that it has ended is durable, or there is no room to make it so."""
        while self.jobs.get(job.record.id) is job and (job.unended or not job.unsaved):
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
            StorageFull: it waits no more, and a restarted daemon would start it all the same.
        """
        job = self._live(record)
        number = int(signal.SIGTERM) if signal_number is None else signal_number
        grace = job.request.spec.grace // 1000 if grace_ms is None else grace_ms
        await self._sure(self._end(job, number, grace))

    async def kill(self, record: Record) -> None:
        """Kill every process of it. Durable when this returns.

        Raises:
            WrongState: it has ended.
        """
        await self._sure(self._end(self._live(record), int(signal.SIGKILL), 0))

    async def _end(self, job: LiveJob, number: int, grace_ms: int) -> None:
        if job.record.state is State.QUEUED:
            job.record.stop = (number, grace_ms)
            await self.dispatch.end_queued(job)
        else:
            await job.stop(number, grace_ms)

    async def signal(self, record: Record, number: int) -> None:
        """Send a signal to its first process's group.

        Raises:
            WrongState: it does not run.
        """
        await self._live(record).signal(number)

    async def pause(self, record: Record) -> None:
        """Freeze it.

        Raises:
            WrongState: it does not run, or cannot be frozen.
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
        await self._live(record).past_start()
        return await self._sure(self._change(self._live(record), options))

    async def _change(self, job: LiveJob, options: dict[str, Any]) -> JobStatus:
        async with job.changing:
            record = self._live(job.record).record
            request, limits = changed_request(job, options, self.paths)
            self.dispatch.admission.require_possible(request.spec)
            handle = job.handle
            if handle is not None:
                in_force = await self.dispatch.in_thread(lambda: handle.change(limits))
                if job.handle is handle:
                    record.limits = record.limits | in_force
                reached("limits-changed")
            elif record.state is not State.QUEUED:
                raise WrongState(f"job {record.id} is {record.state.value}", hint="try again")
            job.request = request
            record.request = request.to_plain()
            if job.unended:
                self.dispatch.changed(job)
                await self._keep_change(record)
        return await self.status(record)

    async def _keep_change(self, record: Record) -> None:
        try:
            await self.store.save(record, event=False)
        except StorageFull as error:
            told = f"job {record.id} has its new limits, and they cannot be written down"
            raise StorageFull(f"{told}: {error.message}", hint=error.hint) from error

    async def remove(self, record: Record, *, force: bool = False) -> None:
        """Forget an ended job: its record, its output. With `force`, kill it first.

        Raises:
            WrongState: it has not ended.
            StorageFull: its output is gone, its record is not.
        """
        if (job := self.jobs.get(record.id)) is not None:
            if job.unended and not force:
                raise WrongState(
                    f"job {record.id} is {record.state.value}", hint="stop it first, or rm --force"
                )
            if job.unended:
                with suppress(WrongState):  # it ends by itself
                    await self.kill(record)
            await self._until_ended(job)
            await self._require_kept(job)
        await self._sure(self.forget([record.id]))

    async def _require_kept(self, job: LiveJob) -> None:
        """A record that is not kept yet would come back; its own output may be what fills the disk.

        Raises:
            StorageFull: that did not help.
        """
        job_id = job.record.id
        if self.jobs.get(job_id) is job:
            await self.dispatch.in_thread(lambda: self.dispatch.launcher.remove_output(job_id))
            self.dispatch.nudge()
            if self.jobs.get(job_id) is job:  # else it was kept meanwhile, and nobody wakes us
                await job.wait_change()
        if self.jobs.get(job_id) is job:
            raise StorageFull(f"the end of job {job_id} cannot be written down yet")

    async def forget(self, job_ids: list[str]) -> None:
        """Remove the records, then the files, of ended jobs; where there is no room to remove
        records, the files first."""
        try:
            await self.store.delete(job_ids)
        except StorageFull:
            await self._remove_files(job_ids)
            await self.store.delete(job_ids)
        reached("row-deleted")
        await self._remove_files(job_ids)

    async def _remove_files(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            try:
                await self.dispatch.in_thread(partial(self.dispatch.launcher.remove, job_id))
            except OSError as error:
                # The job is forgotten all the same; the next daemon removes what is nobody's.
                log.warning("files stay until a restart", job=job_id, error=error)

    async def prune(self, peer: Peer, asked: PruneRequest) -> list[str]:
        """Forget this peer's jobs that ended some time ago; their ids."""
        return await self._sure(self._retention.prune(peer, asked))
