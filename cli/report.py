"""`--verdict FILE`: a place for the verdict, found before the job starts: a job that has run must
not turn out to have nowhere to say how it ended.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import click

from jobsup.supervisor.errors import BadValue

if TYPE_CHECKING:
    from pathlib import Path

    from jobsup.supervisor.verdict import Verdict

_DESCRIPTOR = re.compile(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]{1,9})")

_BEGINNING = b'{"id": '  # of every verdict


@contextmanager
def report(path: str | None) -> Iterator[Callable[[Verdict], None]]:
    """A place for the verdict, found before the job starts: write(verdict) puts it there.

    A file appears whole or not at all, under its own name only when it is complete; a verdict that
    was there goes at once, lest it be read as this job's. "-" is standard error, since standard
    output is the job's. A descriptor of ours (/dev/stdout, a shell's ">(…)"), a device or a FIFO is
    written as it is.
    """
    if path is None or path == "-":
        yield (lambda verdict: None) if path is None else _to_stderr
        return
    if path == "--":  # the end of the flags, where the file was forgotten
        raise BadValue("verdict", path, "is no file", '--verdict FILE, or "-" for stderr')
    with ExitStack() as stack:
        try:
            write = _opened(path, stack)
        except (OSError, ValueError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadValue("verdict", path, f"cannot be written: {why}") from None
        yield write


def _opened(path: str, stack: ExitStack) -> Callable[[Verdict], None]:
    own = descriptor_named(path)
    if own is not None or not _is_to_be_replaced(path):
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags) if own is None else _copy_to_write(own)
        stack.callback(os.close, descriptor)
        return lambda verdict: _write(descriptor, verdict)
    target = _target(path)
    place = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o666)
    stack.callback(place.unlink, missing_ok=True)
    stack.callback(os.close, descriptor)
    discard(path)

    def write(verdict: Verdict) -> None:
        _write(descriptor, verdict)
        os.fsync(descriptor)
        place.replace(target)

    return write


def discard(path: str | None) -> None:
    """Take away another job's verdict from the file of --verdict; whatever is no verdict stays: who
    mistypes a command line must not lose a file by it."""
    if path is None or path == "-" or descriptor_named(path) is not None:
        return
    with suppress(OSError, ValueError, RuntimeError):
        if _is_to_be_replaced(path):
            target = _target(path)
            with target.open("rb") as file:
                old = file.read(len(_BEGINNING)) == _BEGINNING
            if old:
                target.unlink()


def descriptor_named(path: str) -> int | None:
    """The number of our own descriptor that the path stands for, if it stands for one."""
    match = _DESCRIPTOR.fullmatch(path)
    if match is None:
        return None
    return ("stdin", "stdout", "stderr").index(match[1]) if match[1] else int(match[2])


def _copy_to_write(descriptor: int) -> int:
    """Not opened anew by its name: that would write a file from its start, and fail on a socket."""
    from fcntl import F_GETFL, fcntl

    if fcntl(descriptor, F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise PermissionError(errno.EBADF, "it is not open for writing")
    return os.dup(descriptor)


def _is_to_be_replaced(path: str) -> bool:
    """Whether there is a regular file, or nothing yet; writing to a directory is an error."""
    try:
        mode = os.stat(path or ".").st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISREG(mode) and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return stat.S_ISREG(mode)


def _target(path: str) -> Path:
    """A link stays, what it leads to is replaced."""
    from pathlib import Path  # which takes urllib with it

    return Path(path).resolve()


def _to_stderr(verdict: Verdict) -> None:
    click.echo(verdict.to_json(), err=True)


def _write(descriptor: int, verdict: Verdict) -> None:
    rest = memoryview(verdict.to_json().encode("ascii") + b"\n")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
