"""Why a job ended, with the evidence: one frozen object, made once from what the init recorded.

Rules of judging, in this order:
1. Without a record the init was lost, and how the job ended is not known. It is never guessed.
2. What the init did to end the job comes before how the job took it: a job that answers TERM with
   exit 0 was stopped all the same.
3. "memory" needs the kernel's own counters: the leaf met its limit (`oom`) and the kernel killed in
   it (`oom_kill`), and either the whole group or the main process is what died. A kill without
   `oom` in the leaf was decided further up: "memory-ancestor". A SIGKILL alone proves nothing.
4. Only then does the main process's own end count.
A counter that the kernel does not have is None, here and in JSON.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from jobsup.isolation import EndedBy, ExitRecord, Program, errno_name

from . import explain
from .spec import Spec
from .usage import Usage, events_of, usage_of

Cause = Literal[
    "exited",
    "signaled",
    "memory",
    "memory-ancestor",
    "timeout",
    "cpu-time",
    "output",
    "stopped",
    "killed",
    "setup",
    "exec",
    "init-lost",
    "lost",
]
EndState = Literal["completed", "failed", "stopped", "lost"]

_BY_INIT: dict[EndedBy, Cause] = {
    EndedBy.WALL_TIME: "timeout",
    EndedBy.CPU_TIME: "cpu-time",
    EndedBy.OUTPUT: "output",
    EndedBy.STOP: "stopped",
    EndedBy.KILL: "killed",
    EndedBy.PEER_LOST: "killed",
}
# What the CLI exits with; "exited", "signaled" and "exec" have rules of their own.
_STATUS: dict[Cause, int] = {
    "memory": 137,
    "memory-ancestor": 137,
    "killed": 137,
    "output": 137,
    "timeout": 124,
    "cpu-time": 124,
    "stopped": 143,
    "setup": 125,
    "init-lost": 125,
    "lost": 125,
}
_STATE: dict[Cause, EndState] = {
    "stopped": "stopped",
    "killed": "stopped",
    "init-lost": "lost",
    "lost": "lost",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of one job. `to_dict` is the JSON object of the same names."""

    id: str
    name: str | None
    state: EndState
    cause: Cause
    exit_code: int | None
    signal: str | None
    status: int
    message: str
    hint: str | None
    argv: tuple[bytes, ...]
    user: str | None
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    wall_seconds: float | None
    limits: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    events: dict[str, int | None] = field(default_factory=dict)
    output: dict[str, int | str | None] = field(default_factory=dict)
    setup_failure: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Bytes that are not UTF-8 are shown as escapes."""
        # dataclasses.asdict would copy to the last leaf, at ten times the cost.
        plain: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        plain["usage"] = {name: getattr(self.usage, name) for name in _USAGE_FIELDS}
        plain["argv"] = [argument.decode(errors="backslashreplace") for argument in self.argv]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The verdict that `to_dict` made this of; what a later version added is left out.

        Arguments that are not UTF-8 stay the escapes that they were shown as.
        """
        known = {entry.name for entry in dataclasses.fields(cls)}
        told = {name: value for name, value in plain.items() if name in known}
        usage = {entry.name for entry in dataclasses.fields(Usage)}
        told["usage"] = Usage(**{n: v for n, v in plain.get("usage", {}).items() if n in usage})
        told["argv"] = tuple(argument.encode() for argument in plain.get("argv", ()))
        return cls(**told)

    def to_json(self) -> str:
        """The object as one line."""
        import json  # the foreground run without --verdict does not need it

        return json.dumps(self.to_dict())


_FIELDS = tuple(field.name for field in dataclasses.fields(Verdict))
_USAGE_FIELDS = tuple(field.name for field in dataclasses.fields(Usage))


def judge(
    spec: Spec,
    job_id: str,
    record: ExitRecord | None,
    limits: Mapping[str, str],
    *,
    user: str | None = None,
    program: Program | None = None,
    queued_ns: int | None = None,
    started_ns: int | None = None,
    ended_ns: int | None = None,
    host_lost: bool = False,
) -> Verdict:
    """The verdict on a job that has ended.

    Args:
        record: the init's; None when there is none, and the init is gone.
        host_lost: without a record, the host went down while the job ran.
        limits: the leaf's files as read back after they were set.
        program: what was to be executed; with it, a failed exec gets better advice.
        queued_ns, started_ns, ended_ns: CLOCK_REALTIME as the caller saw it; what the record says
            comes first.
    """
    counters = record.counters if record else {}
    events = events_of(counters)
    cause = "lost" if record is None and host_lost else _cause(record, events)
    case = explain.Case(spec, record, limits, usage_of(record), events, program)
    message, hint = explain.explain(cause, case)
    code, signal_name = _own_end(record)
    return Verdict(
        id=job_id,
        name=spec.name,
        state="completed" if (cause, code) == ("exited", 0) else _STATE.get(cause, "failed"),
        cause=cause,
        exit_code=code,
        signal=signal_name,
        status=_status(cause, record),
        message=message,
        hint=hint,
        argv=spec.argv,
        user=user,
        queued_at=rfc3339(queued_ns),
        started_at=rfc3339((record and record.started_ns) or started_ns),
        ended_at=rfc3339((record and record.ended_ns) or ended_ns),
        wall_seconds=round(record.wall_ns / 1e9, 6) if record and record.started_ns else None,
        limits=dict(limits),
        usage=case.usage,
        events=events,
        output=_output(record),
        setup_failure=_setup_failure(record),
    )


def never_started(
    spec: Spec,
    job_id: str,
    cause: Literal["stopped", "killed", "setup"],
    message: str,
    hint: str | None = None,
    *,
    user: str | None = None,
    queued_ns: int | None = None,
    ended_ns: int | None = None,
) -> Verdict:
    """The verdict on a job whose init never was: stopped in the queue, or refused by the host."""
    return Verdict(
        id=job_id,
        name=spec.name,
        state=_STATE.get(cause, "failed"),
        cause=cause,
        exit_code=None,
        signal=None,
        status=_STATUS[cause],
        message=message,
        hint=hint,
        argv=spec.argv,
        user=user,
        queued_at=rfc3339(queued_ns),
        started_at=None,
        ended_at=rfc3339(ended_ns),
        wall_seconds=None,
        events=events_of({}),
        output=_output(None),
    )


# ---- judging


def _cause(record: ExitRecord | None, events: Mapping[str, int | None]) -> Cause:
    if record is None:
        return "init-lost"
    memory = _memory_cause(record, events)
    if record.failure is not None:
        return memory or ("exec" if record.failure.is_exec else "setup")
    if record.ended_by in _BY_INIT:
        return _BY_INIT[record.ended_by]
    if memory is not None:
        return memory
    if record.wait_status is None:
        return "setup"
    return "signaled" if os.WIFSIGNALED(record.wait_status) else "exited"


def _memory_cause(record: ExitRecord, events: Mapping[str, int | None]) -> Cause | None:
    group = (events["oom_group_kill"] or 0) > 0
    killed = (events["oom_kill"] or 0) > 0 or group
    status = record.wait_status
    main = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    if not killed or not (group or main):
        return None
    return "memory" if (events["oom"] or 0) > 0 else "memory-ancestor"


def _own_end(record: ExitRecord | None) -> tuple[int | None, str | None]:
    """The main process's exit code, or the name of the signal that ended it."""
    if record is None or record.wait_status is None:
        return None, None
    if os.WIFSIGNALED(record.wait_status):
        return None, explain.signal_name(os.WTERMSIG(record.wait_status))
    return os.WEXITSTATUS(record.wait_status), None


def _status(cause: Cause, record: ExitRecord | None) -> int:
    if cause in _STATUS:
        return _STATUS[cause]
    assert record is not None, "only init-lost and lost have no record"
    if cause == "exec":
        assert record.failure is not None
        return 127 if explain.is_not_found(record.failure) else 126
    assert record.wait_status is not None
    if cause == "signaled":
        return 128 + os.WTERMSIG(record.wait_status)
    # Success is not success when its output did not arrive: `jobsup run … > full-disk`.
    own = os.WEXITSTATUS(record.wait_status)
    return own or (125 if explain.undelivered(record) else 0)


# ---- the rest of the object


def _output(record: ExitRecord | None) -> dict[str, int | str | None]:
    names = ("stdout_bytes", "stderr_bytes", "lost_bytes")
    told: dict[str, int | str | None] = {
        name: getattr(record, name) if record else None for name in names
    }
    failed = record is not None and record.output_errno
    return told | {"errno": errno_name(failed) if failed else None}


def _setup_failure(record: ExitRecord | None) -> dict[str, str] | None:
    if record is None or record.failure is None:
        return None
    return {"step": record.failure.step, "errno": errno_name(record.failure.errno)}


def rfc3339(nanoseconds: int | None) -> str | None:
    """A time of CLOCK_REALTIME in UTC, to the microsecond; None for none."""
    if not nanoseconds:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{rest // 1000:06d}Z"
