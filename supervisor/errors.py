"""The errors above isolation: what was asked wrongly, and jobs that did not end well.

The base, JobsupError, is isolation's, so that one `except` catches the whole family. An error that
stands for an ended job carries the job's verdict, and exits with the verdict's status.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from jobsup.isolation import (
    HostNotSupported,
    JobsupError,
    LaunchFailed,
    LimitNotEnforceable,
    PathRefused,
)

if TYPE_CHECKING:
    from .verdict import Verdict

__all__ = [
    "BadValue",
    "CpuTimeSpent",
    "ExecFailed",
    "HostNotSupported",
    "JobFailed",
    "JobsupError",
    "Killed",
    "LaunchFailed",
    "LimitNotEnforceable",
    "Lost",
    "OutOfMemory",
    "OutputLimitReached",
    "PathRefused",
    "SetupFailed",
    "Signaled",
    "Stopped",
    "TimedOut",
    "failure_of",
]


class _Shown(reprlib.Repr):
    """repr() that is short, and never fails: what is shown may be anything at all."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        # CPython refuses to print an integer of more than 4300 digits.
        return repr(x) if x.bit_length() < 256 else f"an integer of {x.bit_length()} bits"


_shown = _Shown()


class BadValue(JobsupError):
    """A value that was asked for cannot be; nothing was created.

    Attributes:
        field: the option as the library names it ("mem_high"); "argv" is the command itself.
        value: the value as it was given.
        why: the rest of a sentence that begins with the value ("is not a size").
    """

    def __init__(self, field: str, value: object, why: str, remedy: str | None = None) -> None:
        self.field = field
        self.value = value
        self.why = why
        super().__init__(self.sentence(field), hint=remedy)

    def sentence(self, name: str) -> str:
        """The message for a reader who knows the field as `name` ("--mem-high")."""
        return f"{name}: {_shown.repr(self.value)} {self.why}"


class JobFailed(JobsupError):
    """A job ended otherwise than with exit code 0. Raised as itself for another exit code.

    Attributes:
        verdict: why it ended, with the evidence.
        args_: the command, as the caller gave it.
        stdout, stderr: what was captured, None where nothing was.
    """

    def __init__(
        self,
        verdict: Verdict,
        *,
        args_: object = (),
        stdout: str | bytes | None = None,
        stderr: str | bytes | None = None,
    ) -> None:
        super().__init__(verdict.message, hint=verdict.hint)
        self.verdict = verdict
        self.exit_status = verdict.status
        self.args_: Any = args_
        self.stdout: Any = stdout  # text or bytes, as the caller asked
        self.stderr: Any = stderr


class OutOfMemory(JobFailed):
    """The kernel killed the job for want of memory: at its own limit, or at one above it."""

    @property
    def peak(self) -> int | None:
        """The most memory it held, in bytes; None where the kernel does not tell."""
        return self.verdict.usage.memory_peak

    @property
    def limit(self) -> int | None:
        """Its own limit in bytes, None without one."""
        text = self.verdict.limits.get("memory.max", "max")
        return int(text) if text.isdecimal() else None


class TimedOut(JobFailed):
    """The job was ended at its wall time limit."""


class CpuTimeSpent(JobFailed):
    """The job was ended when its processes had used up their CPU time budget."""


class OutputLimitReached(JobFailed):
    """The job was ended because it wrote more than its output limit."""


class Stopped(JobFailed):
    """The job was stopped by request."""


class Killed(JobFailed):
    """The job was killed by request, or because its caller was gone."""


class Signaled(JobFailed):
    """A signal that jobsup did not send ended the job."""


class SetupFailed(JobFailed):
    """A wall could not be built, so the command was not started."""


class ExecFailed(JobFailed):
    """The walls stood and the command could not be executed (status 126 or 127)."""


class Lost(JobFailed):
    """How the job ended cannot be known."""


_BY_CAUSE: dict[str, type[JobFailed]] = {
    "exited": JobFailed,
    "signaled": Signaled,
    "memory": OutOfMemory,
    "memory-ancestor": OutOfMemory,
    "timeout": TimedOut,
    "cpu-time": CpuTimeSpent,
    "output": OutputLimitReached,
    "stopped": Stopped,
    "killed": Killed,
    "setup": SetupFailed,
    "exec": ExecFailed,
    "init-lost": Lost,
    "lost": Lost,
}


def failure_of(
    verdict: Verdict,
    *,
    args_: object = (),
    stdout: str | bytes | None = None,
    stderr: str | bytes | None = None,
) -> JobFailed:
    """The error that stands for this verdict; the caller raises it."""
    kind = _BY_CAUSE[verdict.cause]
    return kind(verdict, args_=args_, stdout=stdout, stderr=stderr)
