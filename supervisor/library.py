"""`jobsup.run`: a job as a function call, shaped like subprocess.run.

What differs from subprocess: `returncode` is the status that the command line would exit with
(128+n for a signal, 137 for a memory kill, see Verdict.status), `env` adds to a clean environment
instead of replacing the caller's, and the limits and walls are keywords by their flags' names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Generic, Literal, TypedDict, TypeVar, Unpack, overload

from jobsup.isolation import Streams

from .conversation import Capture
from .embedded import EmbeddedJob
from .errors import BadValue, HostNotSupported
from .failures import failure_of
from .spec import Spec
from .verdict import Verdict
from .wiring import Wiring, is_open

# The numbers of subprocess, whose own constants work as well; importing it would cost 5 ms.
PIPE, STDOUT, DEVNULL = -1, -2, -3

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Path = Argument
Size = int | str
Duration = float | str
Target = int | IO[Any] | None
Output = TypeVar("Output", str, bytes)

# How a job can end that subprocess.run would raise for even without check=True.
_ALWAYS_RAISED = frozenset({"exec", "setup", "init-lost", "lost"})


class Options(TypedDict, total=False):
    """The walls and limits of a job: the flags of `jobsup run`, by name. None is the default."""

    name: str | None
    mem: Size | None
    mem_high: Size | None
    mem_low: Size | None
    swap: Size | None
    oom_group: bool | None
    cpus: float | str | None
    cpu_weight: int | str | None
    cpuset: str | None
    pids: int | str | None
    io_max: str | Sequence[str] | None
    io_weight: int | str | None
    cgroup: Mapping[str, str] | Sequence[str] | None
    rw: Path | Sequence[Path] | None
    ro: Path | Sequence[Path] | None
    tmpfs: Path | Sequence[Path] | None
    root: Path | None
    cwd: Path | None
    net: Literal["none", "host"] | None
    hostname: str | None
    user: str | int | None
    group: str | int | None
    groups: Sequence[str | int] | str | None
    cap: str | Sequence[str] | None
    env: Mapping[str, str] | Iterable[str] | None
    inherit_env: bool | None
    rlimit: Mapping[str, int | str] | Sequence[str] | None
    oom_score_adj: int | None
    time: Duration | None
    cpu_time: Duration | None
    grace: Duration | None
    output_max: Size | None
    output_full: Literal["drop", "kill", "block"] | None


@dataclass(frozen=True, slots=True)
class Completed(Generic[Output]):
    """A job that has ended. `returncode` is `verdict.status`; `stdout` and `stderr` are what was
    captured, None where nothing was."""

    args: Sequence[Argument]
    returncode: int
    stdout: Output | None
    stderr: Output | None
    verdict: Verdict

    def check_returncode(self) -> None:
        """Raise JobFailed (or what it is called for this cause) unless the job exited with 0."""
        if self.returncode != 0:
            raise failure_of(self.verdict, args_=self.args, stdout=self.stdout, stderr=self.stderr)


@overload
def run(
    args: Sequence[Argument],
    *,
    input: str | None = None,
    stdin: Target = None,
    stdout: Target = None,
    stderr: Target = None,
    capture_output: bool = False,
    text: Literal[True],
    timeout: float | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Completed[str]: ...


@overload
def run(
    args: Sequence[Argument],
    *,
    input: bytes | None = None,
    stdin: Target = None,
    stdout: Target = None,
    stderr: Target = None,
    capture_output: bool = False,
    text: Literal[False] = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Completed[bytes]: ...


def run(
    args: Sequence[Argument],
    *,
    input: str | bytes | None = None,  # noqa: A002 - subprocess.run's name for it
    stdin: Target = None,
    stdout: Target = None,
    stderr: Target = None,
    capture_output: bool = False,
    text: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Completed[Any]:
    """Run a command as a job and wait for its end.

    Args:
        args: the command and its arguments.
        input: what the job reads on stdin; text with text=True, else bytes.
        stdin: a descriptor or file that is copied into the job's stdin (never handed to it), PIPE
            with `input`, or DEVNULL; None is the caller's own.
        stdout, stderr: a descriptor or file, PIPE to capture, DEVNULL; None is the caller's own.
            stderr=STDOUT merges it into stdout in the order of writing.
        capture_output: both PIPE.
        text: captured output and `input` are text, in UTF-8; what is not UTF-8 is kept by
            surrogateescape.
        timeout: seconds after which the job is killed and TimedOut raised. (The option `time=`
            ends it with SIGTERM and `grace` first, and is only told in the verdict.)
        check: raise unless the job exited with 0.
        options: walls and limits, see Options.

    Raises:
        BadValue: an argument that cannot be; nothing was created.
        HostNotSupported, LimitNotEnforceable, PathRefused, LaunchFailed: it was not started.
        ExecFailed, SetupFailed, TimedOut, Lost: whatever `check` says.
        OutOfMemory, Signaled, JobFailed …: with check=True.
    """
    if capture_output:
        if stdout is not None or stderr is not None:
            raise BadValue("capture_output", capture_output, "excludes stdout and stderr")
        stdout = stderr = PIPE
    asked: dict[str, object] = dict(options)
    if timeout is not None:
        if asked.get("time") is not None:
            raise BadValue("timeout", timeout, "excludes time", "give one of the two")
        asked["time"] = timeout
        asked["grace"] = options.get("grace") or 0
    if "merge" in asked:
        raise BadValue("merge", asked["merge"], "is said otherwise here", "stderr=jobsup.STDOUT")
    merge = stderr == STDOUT
    job = EmbeddedJob(Spec.make(args, merge=merge, **asked))
    with ExitStack() as stack:
        wiring = Wiring(stack)
        err, err_kept = (None, None) if merge else _output(wiring, "stderr", stderr, 2)
        out, out_kept = _output(wiring, "stdout", stdout, 1)
        feed = _feed(wiring, stdin, _as_bytes(input))
        try:
            job.launch(Streams(feed, out, err))
        except HostNotSupported as error:
            raise _by_a_daemon(error) from None
        wiring.close_theirs()
        verdict = job.see_through(wiring.parties)
    kept: tuple[Any, Any] = _taken(out_kept, text), _taken(err_kept, text)
    completed: Completed[Any] = Completed(args, verdict.status, *kept, verdict)
    timed_out = timeout is not None and verdict.cause == "timeout"
    if check or timed_out or verdict.cause in _ALWAYS_RAISED:
        completed.check_returncode()
    return completed


def _by_a_daemon(error: HostNotSupported) -> HostNotSupported:
    """The error, whose hint names the daemon too for who is not root, where there is one."""
    from .client.blocking import socket_path

    if os.geteuid() == 0 or not os.path.exists(socket_path()):
        return error
    there = "jobsup.connect().start(…)"
    return HostNotSupported(
        error.message, hint=f"{error.hint}, or {there}" if error.hint else there
    )


def _as_bytes(given: str | bytes | None) -> bytes | None:
    return given.encode(errors="surrogateescape") if isinstance(given, str) else given


def _feed(wiring: Wiring, source: Target, given: bytes | None) -> int | None:
    """The end that the job reads; None for an empty stdin."""
    if given is not None:
        if source not in (None, PIPE):
            raise BadValue("input", given[:20], "excludes stdin", "give one of the two")
        return wiring.feed(given)
    if source == PIPE:
        raise BadValue("stdin", source, "needs input=", "give the bytes to read as input=")
    if source == DEVNULL or (source is None and not is_open(0)):
        return None
    return wiring.feed(_number("stdin", source, 0))


def _output(wiring: Wiring, field: str, target: Target, own: int) -> tuple[int, Capture | None]:
    """The end that the init writes, and where it is kept when it is captured."""
    if target == PIPE:
        return wiring.capture()
    if target == DEVNULL or (target is None and not is_open(own)):
        return wiring.nowhere(), None
    return _number(field, target, own), None


def _taken(capture: Capture | None, text: bool) -> str | bytes | None:
    if capture is None:
        return None
    data = capture.collected()
    return data.decode(errors="surrogateescape") if text else data


def _number(field: str, target: Target, own: int) -> int:
    if target is None:
        return own
    if isinstance(target, int):
        if isinstance(target, bool) or target < 0:
            raise BadValue(field, target, "is no descriptor", "give a file, PIPE or DEVNULL")
        return target
    return target.fileno()
