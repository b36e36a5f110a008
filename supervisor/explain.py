"""The two sentences of a verdict: what happened and why, and what to try.

One function a cause. A hint is what follows the word "try": a flag, a command, an action. What
these functions may look at on the host is only read, and only after a job has failed to start.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobsup.isolation import EndedBy, ExitRecord, Program, StepFailure, show

from .spec import Spec
from .units import format_duration, format_size
from .usage import Usage

Sentences = tuple[str, str | None]

# A job has its own of these; what the host has there it sees only when granted.
_PRIVATE = (b"/tmp/", b"/var/tmp/", b"/run/", b"/dev/shm/")


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one ended job."""

    spec: Spec
    record: ExitRecord | None
    limits: Mapping[str, str]
    usage: Usage
    events: Mapping[str, int | None]
    program: Program | None

    @property
    def command(self) -> str:
        """The command's own name."""
        return show(self.spec.argv[0].rstrip(b"/").rpartition(b"/")[2] or self.spec.argv[0])


def explain(cause: str, case: Case) -> Sentences:
    """The message and the hint for a job that ended for this cause."""
    message, hint = _SENTENCES[cause](case)
    hits = case.events["pids_max"] or 0
    if hits:
        limit = case.limits.get("pids.max", str(case.spec.pids))
        message += f"; the pids limit {limit} was hit {_times(hits)}"
        if limit.isdecimal():
            hint = hint or f"--pids {int(limit) * 2}"
    if lost := _lost_output(cause, case):
        message += f"; {lost[0]}"
        hint = hint or lost[1]
    return message, hint


def undelivered(record: ExitRecord | None) -> bool:
    """Whether output was lost to a failure of ours to write it (a full disk). A reader that has
    gone wanted no more of it."""
    return record is not None and record.output_errno not in (0, errno.EPIPE)


def _lost_output(cause: str, case: Case) -> Sentences | None:
    record, cap = case.record, case.spec.output_max
    if record is None or not record.lost_bytes:
        return None
    if undelivered(record):
        why = os.strerror(record.output_errno)
        return f"{record.lost_bytes} bytes of its output were lost: {why}", None
    if cap is None or cause == "output":
        return None
    message = f"{record.lost_bytes} bytes of output above its limit {format_size(cap)} were lost"
    return message, f"--output-max {format_size(2 * max(cap, 1))}"


def signal_name(number: int) -> str:
    """SIGKILL and its kin; real-time signals by their distance from the first."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def is_not_found(failure: StepFailure) -> bool:
    """Whether the command or its interpreter is not there, rather than there and no good."""
    return failure.errno in (errno.ENOENT, errno.ENOTDIR)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# ---- ends of a job that ran


def _exited(case: Case) -> Sentences:
    assert case.record is not None and case.record.wait_status is not None
    message = f"exited with code {os.WEXITSTATUS(case.record.wait_status)}"
    kills = case.events["oom_kill"] or 0
    if not kills:
        return message, None
    processes = "one of its processes" if kills == 1 else f"{kills} of its processes"
    return f"{message}; the kernel killed {processes} for want of memory", _more_memory(case)


def _signaled(case: Case) -> Sentences:
    assert case.record is not None and case.record.wait_status is not None
    status = case.record.wait_status
    name = signal_name(os.WTERMSIG(status))
    core = " and dumped core" if os.WCOREDUMP(status) else ""
    message = f"{case.command} was ended by {name}{core}"
    if name == "SIGKILL" and case.events["oom_kill"] == 0:
        message += ", which the kernel did not send for want of memory"
    return message, None


def _memory_limit(case: Case) -> int | None:
    text = case.limits.get("memory.max", "")
    asked = case.spec.mem if isinstance(case.spec.mem, int) else None
    return int(text) if text.isdecimal() else asked


def _more_memory(case: Case) -> str | None:
    limit = _memory_limit(case)
    return f"--mem {format_size(2 * limit)}" if limit else None


def _peak(case: Case) -> str:
    peak = case.usage.memory_peak
    return "" if peak is None else f", peak {format_size(peak, exact=False)}"


def _memory(case: Case) -> Sentences:
    limit = _memory_limit(case)
    name = f"memory limit {format_size(limit)}" if limit else "memory limit"
    return f"{name} reached: the kernel killed {case.command}{_peak(case)}", _more_memory(case)


def _memory_ancestor(case: Case) -> Sentences:
    limit = _memory_limit(case)
    own = f"; its own limit {format_size(limit)} was not reached" if limit else ""
    message = f"memory ran out above the job: the kernel killed {case.command}{_peak(case)}{own}"
    return message, "fewer jobs at a time, or more memory for all of them"


def _timeout(case: Case) -> Sentences:
    spec, record = case.spec, case.record
    assert record is not None
    took = f"after {record.wall_ns / 1e9:.1f}s"
    if record.paused_ms >= 50:  # else nobody sees it in the sum
        took += f", of which it was paused for {record.paused_ms / 1e3:.1f}s"
    if spec.time is None:
        return f"time limit reached: {case.command} was ended {took}", None
    message = f"time limit {format_duration(spec.time)} reached: {case.command} was ended {took}"
    return message, f"--time {format_duration(2 * spec.time)}"


def _cpu_time(case: Case) -> Sentences:
    budget = case.spec.cpu_time
    if budget is None:
        return f"CPU time budget used up: {case.command} was ended", None
    message = f"CPU time budget {format_duration(budget)} used up: {case.command} was ended"
    return message, f"--cpu-time {format_duration(2 * budget)}"


def _output(case: Case) -> Sentences:
    limit = case.spec.output_max
    if limit is None:
        return f"output limit reached: {case.command} was killed", None
    message = f"output limit {format_size(limit)} reached: {case.command} was killed"
    return message, f"--output-max {format_size(2 * max(limit, 1))}"


def _stopped(case: Case) -> Sentences:
    message = f"{case.command} was stopped on request"
    status = case.record.wait_status if case.record else None
    if status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        message += "; it did not end by itself and was killed"
    return message, None


def _killed(case: Case) -> Sentences:
    if case.record is not None and case.record.ended_by is EndedBy.PEER_LOST:
        return f"{case.command} was killed: the jobsup that ran it was gone", None
    return f"{case.command} was killed on request", None


def _init_lost(case: Case) -> Sentences:
    return f"the init of the job was lost: how {case.command} ended is not known", None


def _lost(case: Case) -> Sentences:
    return f"the host went down: how {case.command} ended is not known", None


# ---- jobs that did not start


def _setup(case: Case) -> Sentences:
    failure = case.record.failure if case.record else None
    if failure is None:
        return f"{case.command} was never executed, and no step of its set-up says why", None
    message = f"{failure.step}: {os.strerror(failure.errno)}"
    if failure.option == "cwd":
        return message, "--cwd /, or another directory that the job's user may enter"
    if failure.option is not None:
        return message, f"another value of --{failure.option.replace('_', '-')}"
    return message, "jobsup doctor"


def _exec(case: Case) -> Sentences:
    assert case.record is not None and case.record.failure is not None
    failure = case.record.failure
    command = show(case.spec.argv[0])
    if failure.interpreter:
        return _bad_interpreter(case, command)
    if is_not_found(failure):
        return _not_found(case, command)
    if failure.errno == errno.ENOEXEC:
        message = f"{command} is not a program for this machine, nor a script with a #! line"
        return message, f"sh {command}" if _text_file(case) else None
    if failure.errno == errno.EACCES:
        return f"{command} cannot be executed: {os.strerror(errno.EACCES)}", _executable(case)
    return f"{command} cannot be executed: {os.strerror(failure.errno)}", None


def _not_found(case: Case, command: str) -> Sentences:
    raw = case.spec.argv[0]
    if b"/" in raw:
        # Who may not be told what lies where gets no program, and no hint.
        hint = _grant(case, case.program.candidates[0]) if case.program else None
        return f"{command}: no such command in the job", hint
    path_variable = dict(case.program.environment).get(b"PATH") if case.program else None
    where = f" ({show(path_variable)})" if path_variable is not None else ""
    return f"{command}: no such command on the job's PATH{where}", _similar(case, raw)


def _grant(case: Case, path: bytes) -> str | None:
    """The flag that shows the job a host file which lies where the job has its own directory."""
    if case.spec.root != b"/" or not path.startswith(_PRIVATE):
        return None
    path = os.path.normpath(path)
    if not _is_file(path):
        return None
    directory = path.rpartition(b"/")[0]
    return f"--ro {show(path if directory + b'/' in _PRIVATE else directory)}"


def _similar(case: Case, name: bytes) -> str | None:
    """What is there under a name that is like this one."""
    if case.program is None or case.spec.root != b"/":
        return None
    if _is_file(b"%b/%b" % (case.spec.cwd, name)):
        return f"./{show(name)}"
    from difflib import get_close_matches  # only on the way to an error

    names: set[str] = set()
    for candidate in case.program.candidates:
        try:
            with os.scandir(os.fsdecode(candidate.rpartition(b"/")[0] or b"/")) as entries:
                names.update(entry.name for entry in entries)
        except OSError:
            continue
    close = get_close_matches(os.fsdecode(name), names, 1, 0.75)
    return show(os.fsencode(close[0])) if close else None


def _bad_interpreter(case: Case, command: str) -> Sentences:
    line = _head(case)
    if line.startswith(b"#!"):
        interpreter = line[2:].split(b"\n")[0].split(None, 1)
        if interpreter:
            name = show(interpreter[0])
            hint = _grant(case, interpreter[0])
            return f"{command}: bad interpreter {name}: {os.strerror(errno.ENOENT)}", hint
    return f"{command}: its interpreter or dynamic loader is not there", None


def _executable(case: Case) -> str | None:
    """What makes a program executable that nobody may execute yet; other files are none."""
    path = _first_file(case)
    if path is None or not _head(case).startswith((b"#!", b"\x7fELF")):
        return None
    return None if os.stat(path).st_mode & 0o111 else f"chmod +x {show(path)}"


def _text_file(case: Case) -> bool:
    head = _head(case)
    return bool(head) and b"\0" not in head and not head.startswith(b"\x7fELF")


# ---- looking at the host: only names, modes, and the head of files that everybody may read


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _first_file(case: Case) -> bytes | None:
    if case.program is None or case.spec.root != b"/":
        return None
    return next(filter(_is_file, case.program.candidates), None)


def _head(case: Case) -> bytes:
    path = _first_file(case)
    if path is None:
        return b""
    try:
        # Without waiting: between the look and this open, the path may have become a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        mode = os.fstat(descriptor).st_mode
        readable = stat.S_ISREG(mode) and mode & stat.S_IROTH
        return os.read(descriptor, 256) if readable else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


_SENTENCES: dict[str, Callable[[Case], Sentences]] = {
    "exited": _exited,
    "signaled": _signaled,
    "memory": _memory,
    "memory-ancestor": _memory_ancestor,
    "timeout": _timeout,
    "cpu-time": _cpu_time,
    "output": _output,
    "stopped": _stopped,
    "killed": _killed,
    "setup": _setup,
    "exec": _exec,
    "init-lost": _init_lost,
    "lost": _lost,
}
