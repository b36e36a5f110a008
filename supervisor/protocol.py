"""The messages of the API, for both of its ends; no I/O, and nothing that only one end knows.

Everything is JSON (RFC 8259) but output, which is bytes. Times are RFC 3339 in UTC, sizes bytes,
durations seconds. A text that stands for bytes (an argument, a path) is a JSON string where it is
UTF-8, else {"base64": "..."}; see wire.py. Fields are added, never renamed: a reader ignores what
it does not know.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

from msgspec import Struct

API_VERSION = 1

SOCKET = "/run/jobsup/jobsup.sock"
SOCKET_VARIABLE = "JOBSUP_SOCKET"

StateName = Literal[
    "queued",
    "starting",
    "running",
    "paused",
    "stopping",
    "completed",
    "failed",
    "stopped",
    "lost",
]
UNFINISHED: tuple[StateName, ...] = ("queued", "starting", "running", "paused", "stopping")
ENDED: tuple[StateName, ...] = ("completed", "failed", "stopped", "lost")

# A job in the foreground: what POST /jobs/run is upgraded to (daemon/api/attach.py).
UPGRADE = "jobsup-run"

# Output in frames: before each piece the stream's number, the length, the offset in the stream, and
# when it was written in nanoseconds of CLOCK_REALTIME.
FRAME_HEAD = struct.Struct("<2I2Q")
STREAMS = {"stdout": 1, "stderr": 2}

# Every code that an error can have, and its HTTP status. Codes are for programs and never change;
# messages are for people and may.
ERROR_STATUS: dict[str, int] = {
    "bad-request": 400,  # no JSON, a wrong type, an unknown query parameter
    "bad-value": 400,  # `field` is named
    "forbidden": 403,  # what only root may ask for
    "not-found": 404,  # absent, or somebody else's: the same answer
    "no-such-path": 404,  # of the API
    "wrong-method": 405,
    "too-slow": 408,  # a request that was begun and not ended in time
    "ambiguous": 409,  # a prefix or a name of several jobs
    "wrong-state": 409,  # the job cannot do that now: it has ended, it is queued …
    "too-large": 413,
    "limit-not-enforceable": 422,
    "path-refused": 422,
    "quota": 429,
    "internal": 500,
    "launch-failed": 503,  # no memory, no descriptors: try again
    "not-ready": 503,  # unready, or shutting down
    "overloaded": 503,  # too many connections, no descriptors: try again
    "host-not-supported": 503,
    "storage-full": 507,
}


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """One error. `field` is the option as the library names it, `value` what was given for it;
    `why` and `remedy` mention other options as "{mem}" (see BadValue)."""

    code: str
    message: str
    hint: str | None = None
    field: str | None = None
    value: str | None = None
    why: str | None = None
    remedy: str | None = None


class ErrorBody(Struct, frozen=True):
    """The body of every answer from 400 on."""

    error: ErrorInfo


class Attempt(Struct, frozen=True):
    """One run of a job that was run more than once, or is to be."""

    attempt: int
    started_at: str | None
    ended_at: str | None
    verdict: dict[str, Any] | None


class JobSummary(Struct, frozen=True):
    """One line of a list."""

    id: str
    name: str | None
    state: StateName
    user: str
    argv: list[str]  # to show: bytes that are not UTF-8 as escapes
    attempt: int
    queued_at: str
    started_at: str | None
    ended_at: str | None
    cause: str | None
    status: int | None
    message: str | None
    due_at: str | None = None  # when a queued job may start at the earliest; None: now


class JobStatus(Struct, frozen=True):
    """All that is known of a job. `verdict` is that of the last ended attempt, the object of
    `jobsup status --json`; None while the first one has not ended."""

    id: str
    name: str | None
    state: StateName
    user: str
    argv: list[str]
    attempt: int
    queued_at: str
    started_at: str | None
    ended_at: str | None
    due_at: str | None  # when a queued job may start at the earliest; None: now
    reason: str | None  # why it is where it is: "waits for a free place", "paused on request"
    request: dict[str, Any]  # as it was asked, every default left out
    limits: dict[str, str]  # as read back from the leaf
    current: dict[str, int | None] | None  # of a live job: memory, cpu_usec, pids
    output: dict[str, int]  # stdout_bytes, stderr_bytes so far
    attempts: list[Attempt]
    verdict: dict[str, Any] | None


class JobPage(Struct, frozen=True):
    """Newest first; `next` goes into ?after= for the page that follows, None on the last one."""

    jobs: list[JobSummary]
    next: str | None


class Started(Struct, frozen=True):
    """The answer to POST /jobs/run."""

    id: str
    state: StateName


class StopRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /jobs/{id}/stop: None is SIGTERM and the job's own grace."""

    signal: str | int | None = None
    grace: float | str | None = None


class SignalRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /jobs/{id}/signal: to the process group of its first process."""

    signal: str | int


class PruneRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /jobs/prune: remove ended jobs that ended longer ago than `older` (a duration)."""

    older: float | str = 0.0
    state: StateName | None = None


class Pruned(Struct, frozen=True):
    """The ids of the jobs that are gone."""

    removed: list[str]


class Ping(Struct, frozen=True):
    """GET /ping."""

    time: str
    version: str
    api: int
    ready: bool
    pid: int
    uptime_seconds: float


class Control(Struct, frozen=True):
    """PUT /control/{start|stop|terminate}, and the answer of GET /control."""

    state: Literal["ready", "unready", "terminating"]


class HostFinding(Struct, frozen=True):
    """Something that jobs need of the host. `ok`: true, or false where every job needs it and it is
    not there, or null where only some options do."""

    name: str
    ok: bool | None
    found: str
    remedy: str | None


class Doctor(Struct, frozen=True):
    """GET /doctor: what the host has of what jobs need, as the daemon sees it. `ok`: jobs can run
    here."""

    ok: bool
    findings: list[HostFinding]


class Event(Struct, frozen=True):
    """One line of GET /events."""

    time: str
    id: str
    name: str | None
    user: str
    attempt: int
    state: StateName
    reason: str | None = None
    cause: str | None = None
    status: int | None = None
