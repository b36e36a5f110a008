"""The errors of isolation, and the base of the whole family.

Every error that jobsup raises on purpose is a JobsupError: what happened (the message), and what to
do about it (the hint). The CLI shows both in one place and exits with `exit_status`.
"""

from __future__ import annotations

import errno
import os


class JobsupError(Exception):
    """Base of every error that jobsup raises on purpose.

    Args:
        message: what happened and why, one sentence without a full stop.
        hint: what the reader can do about it, or None.
    """

    exit_status = 125

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # for who reads a traceback

    def __reduce__(self) -> tuple[object, ...]:
        # As it is: what its class takes to make it may differ from what it then holds.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[JobsupError], args: tuple[object, ...]) -> JobsupError:
    error = kind.__new__(kind)
    error.args = args
    return error


class HostNotSupported(JobsupError):
    """This kernel or its set-up cannot run jobs at all (no cgroup v2, too old, not root)."""


class LimitNotEnforceable(JobsupError):
    """A limit was asked for that the host does not enforce; the job was not started.

    Attributes:
        knob: the cgroup file, e.g. "memory.max".
        cause: why it cannot hold here.
    """

    def __init__(self, knob: str, cause: str, *, hint: str | None = None) -> None:
        super().__init__(f"{knob} cannot be enforced: {cause}", hint=hint)
        self.knob = knob
        self.cause = cause


class PathRefused(JobsupError):
    """A path that the job is to have cannot be given to it.

    Attributes:
        field: the option that named it ("rw", "cwd", "root" …).
        path: the path, as bytes.
    """

    def __init__(self, field: str, path: bytes, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"{show(path)}: {why}", hint=hint)
        self.field = field
        self.path = path


class LaunchFailed(JobsupError):
    """The init could not be started, or ended without a word before the job began."""

    def __init__(self, what: str, error: int | None = None) -> None:
        super().__init__(what if error is None else f"{what}: {os.strerror(error)}")
        self.errno = error


def show(raw: bytes) -> str:
    """Bytes for a message: what a terminal would act upon, or could not show, as escapes."""
    text = raw.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def errno_name(number: int) -> str:
    """The symbol of an errno ("ENOSPC"), or "errno N" for one without a name."""
    return errno.errorcode.get(number, f"errno {number}")
