"""Jobs that did not end well, as errors: each carries its verdict and exits with its status."""

from __future__ import annotations

from typing import Any

from jobsup.isolation import JobsupError

from .verdict import Verdict


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
