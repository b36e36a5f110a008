"""What a daemon makes of the jobs that another one left, on its start.

For each unfinished record, in the order of submission:

    queued                  waits again, for what was left of its time
    of another boot         its exit record, else `lost`: the host went down
    its init answers        adopted; a stop that the init does not know of is asked for again
    an init was there       its exit record, else `init-lost`
    no init ever was        launched now: the mark was durable and the clone had not happened
                            (a foreground job, whose streams went with the old daemon, is not)

An init answers, and no record speaks of it (the database was damaged): the record that was kept
beside its spool is taken; without that nobody could ever tell whose it is, so it is ended. Of a job
that waits for its first launch the record lies where its spool will be, and it waits again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from jobsup.isolation import Job, JobsupError, open_hierarchy, reached, sweep

from ..request import Request
from .job import LiveJob
from .launcher import Trace
from .log import log
from .records import Record
from .schedule import due_again
from .state import State

if TYPE_CHECKING:
    from .dispatch import Dispatcher

T = TypeVar("T")
Found = tuple[Trace, Job]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two looks for what is left of a job


async def recover(dispatch: Dispatcher) -> None:
    """Take up every job where it is.

    Raises:
        HostNotSupported: this host cannot run jobs.
    """
    place = await dispatch.in_thread(open_hierarchy)
    records = await dispatch.store.unfinished()
    reached("records-read")
    await dispatch.in_thread(dispatch.launcher.forget_uploads)
    restored = await _unrecorded(dispatch, {record.id for record in records})
    records += restored
    jobs, unreadable = _with_requests(dispatch, records)
    dispatch.jobs.update((job.record.id, job) for job in jobs)
    live = [job for job in jobs if job.record.state is not State.QUEUED]
    traces = await dispatch.in_thread(lambda: [_reached(dispatch, job) for job in live])
    reached("inits-reached")
    # Leaves that nobody holds; those of jobs that will be launched again are among them.
    await dispatch.in_thread(lambda: sweep(place))
    reached("leaves-swept")
    await dispatch.in_thread(partial(_read_all_limits, dispatch, live, traces))
    for job, found in zip(live, traces, strict=True):
        dispatch.admit_running(job)
        job.host_lost = job.record.boot_id != dispatch.boot
        # Without its record nobody knows whether it was launched before: never a second copy.
        known = job.record not in restored and not job.host_lost and not job.record.attached
        known = known and job.record.id not in unreadable
        if found is None:
            dispatch.spawn(_take_up_later(dispatch, job, known))
        else:
            _take_up(dispatch, job, found, known)
    reached("adopted")
    now = time.time_ns()
    queued = [job for job in jobs if job.record.state is State.QUEUED]
    # Those that were due stand where they stood, also when they had waited for a time before.
    for job in sorted(queued, key=lambda job: job.record.due_ns or job.record.queued_ns):
        _queue_again(dispatch, job, now, unreadable.get(job.record.id))
    log.info("took up jobs", live=len(live), queued=len(jobs) - len(live))
    if dispatch.store.quarantined is None:
        await _forget_strays(dispatch, {record.id for record in records})
    reached("recovered")


def _reached(dispatch: Dispatcher, job: LiveJob) -> Found | None:
    """None: it cannot be found out now. That is this job's misfortune, and no other's."""
    try:
        return dispatch.launcher.reach(job.record)
    except (OSError, JobsupError) as error:
        dispatch.failed(job, error)
        return None


def _read_all_limits(dispatch: Dispatcher, live: list[LiveJob], traces: list[Found | None]) -> None:
    for job, found in zip(live, traces, strict=True):
        if found is not None:
            _read_limits(dispatch, job, found)


def _read_limits(dispatch: Dispatcher, job: LiveJob, found: Found) -> None:
    trace, handle = found
    if trace is Trace.LIVE:
        try:
            dispatch.launcher.read_limits(job.record, job.request, handle)
        except OSError as error:  # they are in force, and not shown
            dispatch.failed(job, error)


def _take_up(dispatch: Dispatcher, job: LiveJob, found: Found, known: bool) -> None:
    """Go on with a job of which it was found out what is left. `known`: it may be launched if
    nothing is."""
    trace, handle = found
    if trace is Trace.NONE and known and job.record.started_ns is None:
        dispatch.spawn(_launch_again(dispatch, job, handle))
    else:
        job.follow(handle, adopted=True)


async def _take_up_later(dispatch: Dispatcher, job: LiveJob, known: bool) -> None:
    found = await _insist(dispatch, job, lambda: dispatch.launcher.reach(job.record))
    if found is not None:
        await dispatch.in_thread(partial(_read_limits, dispatch, job, found))
        _take_up(dispatch, job, found, known)


async def _insist(dispatch: Dispatcher, job: LiveJob, call: Callable[[], T]) -> T | None:
    """What the call gives, in a thread, as soon as it does; None: not before the daemon goes. The
    host may be short of descriptors or memory, and the job stays where it is meanwhile."""
    seconds, reason, told = _FIRST_PAUSE, job.record.reason, job.record.reason
    while True:
        try:
            given = await dispatch.in_thread(call)
        except Exception as error:  # noqa: BLE001 - of any kind: the job must not be forgotten
            dispatch.failed(job, error)
            job.record.reason = told = f"what is left of it is not known yet: {error}"
            job.wake()
        else:
            if job.record.reason == told:  # else it was asked to stop meanwhile
                job.record.reason = reason
            return given
        if not await dispatch.pause(seconds):
            return None
        seconds = min(2 * seconds, _LONGEST_PAUSE)


def _with_requests(
    dispatch: Dispatcher, records: list[Record]
) -> tuple[list[LiveJob], dict[str, str]]:
    """The jobs, and why a request that another version of this program kept cannot be read: such
    a job is watched to its end, and not started again."""
    jobs, unreadable = [], {}
    for record in records:
        try:
            request = Request.from_plain(record.request)
        except JobsupError as error:
            log.error("a kept request cannot be read", job=record.id, error=error)
            unreadable[record.id] = str(error)
            request = Request.make(record.argv or ["unknown"], name=record.name, cwd="/")
        jobs.append(LiveJob(record, request, dispatch))
    return jobs, unreadable


def _queue_again(dispatch: Dispatcher, job: LiveJob, now_ns: int, unreadable: str | None) -> None:
    message = None
    if unreadable is not None:
        message = f"its request cannot be read by this version: {unreadable}"
    elif job.record.attached:
        message = "the supervisor was restarted before the job could start"
    if message is not None:
        dispatch.spawn(dispatch.run_ended(job, dispatch.not_started(job, "setup", message)))
    else:
        due = due_again(job.record, job.request, now_ns)
        dispatch.queue(job, due if due is not None and due.when_ns > now_ns else None)


async def _launch_again(dispatch: Dispatcher, job: LiveJob, handle: Job) -> None:
    """A launch that a crash cut short before its clone."""
    handles = [handle]  # which conclude uses up

    def clear() -> bool:
        (handles.pop() if handles else dispatch.reach(job.record)).conclude(None)
        return True

    if await _insist(dispatch, job, clear):
        reached("relaunch")
        await dispatch.launch_marked(job)


async def _unrecorded(dispatch: Dispatcher, known: set[str]) -> list[Record]:
    """Jobs whose inits are there and whose records are not; where the records were damaged, all
    jobs that left anything."""
    ids = dispatch.launcher.controls() - known
    if dispatch.store.quarantined is not None:
        log.error("the records were damaged, and moved aside", to=dispatch.store.quarantined)
        ids |= set(dispatch.launcher.kept_ids()) - known
    found = []
    for job_id in sorted(ids):  # ids sort by time
        if await dispatch.store.get(job_id) is not None:
            dispatch.launcher.forget_control(job_id)  # how it ended is durable
            continue
        record = await dispatch.in_thread(partial(dispatch.launcher.kept, job_id))
        if record is None:
            await _end_unknown(dispatch, job_id)
            continue
        log.warning("took a job's record from beside its files", job=job_id)
        await dispatch.save(record)
        reached("record-restored")
        found.append(record)
    return found


async def _end_unknown(dispatch: Dispatcher, job_id: str) -> None:
    try:
        was = await dispatch.in_thread(partial(dispatch.launcher.end_unknown, job_id))
    except (OSError, JobsupError) as error:  # the next daemon finds it again
        log.error("a job without a record is not ended", job=job_id, error=error)
    else:
        done = "ended a job" if was else "removed the files of a job"
        log.error(f"{done} of which there is no record", job=job_id)


async def _forget_strays(dispatch: Dispatcher, known: set[str]) -> None:
    """Files of jobs that were forgotten, by a daemon that did not come to remove them."""
    found = set(dispatch.launcher.kept_ids()) - known
    for job_id in found - await dispatch.store.ids():
        try:
            await dispatch.in_thread(partial(dispatch.launcher.remove, job_id))
        except OSError as error:
            log.warning("files stay until a restart", job=job_id, error=error)
