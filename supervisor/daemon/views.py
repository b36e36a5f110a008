"""A record as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobsup.isolation import Job

from ..protocol import Attempt, JobStatus, JobSummary
from ..usage import current_of
from ..verdict import rfc3339
from .job import LiveJob
from .paths import Paths
from .records import AttemptRow, Record
from .state import ENDED, State

_LIST_CHARACTERS = 1000


class SpoolView:
    """The output of one attempt, perhaps of the next one: where it is, and whether more of it will
    come."""

    def __init__(self, paths: Paths, record: Record, attempt: int, job: LiveJob | None) -> None:
        self.directory: Path = paths.spool(record.id, attempt)
        self.attempt = attempt
        self._record = record
        self._job = job

    @property
    def complete(self) -> bool:
        """No byte will be added: its init has ended, or it will never be begun."""
        if self._job is None or self._record.attempt > self.attempt:
            return True
        if self._record.attempt < self.attempt:
            return not self._job.unended
        return self._job.gone

    async def wait_begun(self) -> None:
        """Until its init has made the files, or never will. It does so before it tells that the
        command was executed, and every such word is a change."""
        while not (self.complete or (self.directory / "stdout").exists()):
            assert self._job is not None
            await self._job.wait_change()

    async def wait_complete(self) -> None:
        """Until no byte will be added."""
        while not self.complete:
            assert self._job is not None
            await self._job.wait_change()


def last_run(record: Record) -> int:
    """The attempt whose output there is to see: while a job waits for another one, and when it was
    stopped while it did, that is the one before."""
    never_ran = record.state is State.STOPPED and record.started_ns is None
    waits = record.state is State.QUEUED or never_ran
    return max(record.attempt - 1, 1) if waits else record.attempt


def summary(record: Record) -> JobSummary:
    """One line of a list."""
    verdict = record.verdict or {}
    return JobSummary(
        id=record.id,
        name=record.name,
        state=record.state.value,
        user=record.user,
        argv=_shortened(record.argv),
        attempt=record.attempt,
        queued_at=rfc3339(record.queued_ns) or "",
        started_at=rfc3339(record.started_ns),
        ended_at=rfc3339(record.ended_ns),
        cause=verdict.get("cause"),
        status=verdict.get("status"),
        message=verdict.get("message"),
        due_at=_due_at(record),
    )


def _shortened(argv: list[str]) -> list[str]:
    """As much of a command as a line of a list may show: a page has a thousand of them."""
    shown: list[str] = []
    left = _LIST_CHARACTERS
    for argument in argv:
        if len(argument) >= left:
            return [*shown, argument[:left] + "…"]
        shown.append(argument)
        left -= len(argument)
    return shown


def status(
    record: Record, earlier: Sequence[AttemptRow], handle: Job | None, paths: Paths
) -> JobStatus:
    """All that is known of a job. Of its `earlier` runs rows tell; of the last one, its record."""
    return JobStatus(
        id=record.id,
        name=record.name,
        state=record.state.value,
        user=record.user,
        argv=record.argv,
        attempt=record.attempt,
        queued_at=rfc3339(record.queued_ns) or "",
        started_at=rfc3339(record.started_ns),
        ended_at=rfc3339(record.ended_ns),
        due_at=_due_at(record),
        reason=record.reason,
        request=record.request,
        limits=record.limits,
        current=_current(handle),
        output=_output(record, paths.spool(record.id, last_run(record))),
        attempts=[_attempt(row) for row in _runs(record, earlier)],
        verdict=record.verdict,
    )


def _runs(record: Record, earlier: Sequence[AttemptRow]) -> list[AttemptRow]:
    """Those that have ended."""
    runs = [row for row in earlier if row.attempt < record.attempt]
    if record.state in ENDED:
        times = record.started_ns, record.ended_ns
        runs.append(AttemptRow(record.attempt, *times, record.verdict, record.limits))
    return runs


def _due_at(record: Record) -> str | None:
    return rfc3339(record.due_ns) if record.state is State.QUEUED else None


def _current(handle: Job | None) -> dict[str, int | None] | None:
    if handle is None:
        return None
    try:
        return current_of(handle.counters())
    except OSError:  # no descriptor is left to look with; the rest is known all the same
        return None


def _output(record: Record, spool: Path) -> dict[str, int]:
    """Bytes so far, of the last run; those of a job in the foreground went to its caller."""
    found: Mapping[str, int | None] = (record.verdict or {}).get("output", {})
    told = {f"{name}_bytes": found.get(f"{name}_bytes") or 0 for name in ("stdout", "stderr")}
    for name in ("stdout", "stderr"):
        try:
            told[f"{name}_bytes"] = (spool / name).stat().st_size
        except FileNotFoundError:
            if record.ended_ns is None:
                told[f"{name}_bytes"] = 0
    return told


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(row.attempt, rfc3339(row.started_ns), rfc3339(row.ended_ns), row.verdict)
