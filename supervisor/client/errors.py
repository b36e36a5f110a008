"""What goes wrong between a client and its daemon, and the daemon's own errors as their classes.

What the daemon refuses is raised here as it would be raised there, so that a caller need not know
whether a job is embedded or not.
"""

from __future__ import annotations

import errno
import os

from ..errors import (
    Ambiguous,
    BadRequest,
    BadValue,
    Forbidden,
    HostNotSupported,
    JobsupError,
    LaunchFailed,
    LimitNotEnforceable,
    NoSuchJob,
    NotReady,
    PathRefused,
    QuotaExceeded,
    StorageFull,
    WrongState,
)
from ..protocol import ErrorInfo


class NoDaemon(JobsupError):
    """Nobody answers on the socket.

    Attributes:
        socket: its path.
    """

    def __init__(self, socket: str, error: OSError) -> None:
        remedy = "start one: sudo jobsup serve, or systemctl start jobsup"
        why = "no daemon answers there"
        if error.errno == errno.ENOENT:
            why = "there is no such socket, so no daemon"
        elif error.errno != errno.ECONNREFUSED:  # a path that is too long has no errno
            why, remedy = error.strerror or str(error), "--socket or JOBSUP_SOCKET names another"
        super().__init__(f"{socket}: {why}", hint=remedy)
        self.socket = socket


class Disconnected(JobsupError):
    """The daemon went away before its answer was complete."""


class StillRunning(JobsupError, TimeoutError):
    """The job has not ended within the time that was given to wait for it."""


class ApiError(JobsupError):
    """What a daemon answered that has no class of its own.

    Attributes:
        code: a key of protocol.ERROR_STATUS, or what a newer daemon calls it.
    """

    code: str = "internal"


_KINDS: dict[str, type[JobsupError]] = {
    "bad-request": BadRequest,
    "not-found": NoSuchJob,
    "ambiguous": Ambiguous,
    "wrong-state": WrongState,
    "forbidden": Forbidden,
    "quota": QuotaExceeded,
    "not-ready": NotReady,
    "overloaded": NotReady,
    "storage-full": StorageFull,
    "limit-not-enforceable": LimitNotEnforceable,
    "path-refused": PathRefused,
    "launch-failed": LaunchFailed,
    "host-not-supported": HostNotSupported,
}


def error_of(info: ErrorInfo) -> JobsupError:
    """The error that the daemon meant; the caller raises it."""
    if info.code == "bad-value":
        why = info.why or f"is refused: {info.message}"
        return BadValue(info.field or "request", info.value or "", why, info.remedy or info.hint)
    kind = _KINDS.get(info.code, ApiError)
    # Not by its own __init__, which would make the message that is already made.
    error = kind.__new__(kind)
    JobsupError.__init__(error, info.message, hint=info.hint)
    match error:
        case PathRefused():
            error.field, error.path = info.field or "", os.fsencode(info.value or "")
        case LimitNotEnforceable():
            error.knob, error.cause = info.field or "", info.why or info.message
        case LaunchFailed():
            error.errno = None
        case ApiError():
            error.code = info.code
    return error
