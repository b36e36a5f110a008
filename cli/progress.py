"""The line that tells on a terminal how a wait goes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobsup.supervisor.client.errors import StillRunning

from . import render
from .details import current
from .table import age

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job
    from jobsup.supervisor.verdict import Verdict

_EVERY = 1.0  # seconds between two looks, only while somebody watches


def waited(job: Job, timeout: float | None, *, shown: bool) -> Verdict:
    """The verdict of the job once it has ended, with a line of progress meanwhile.

    Raises:
        StillRunning: it has not after `timeout` seconds.
    """
    if not shown or not sys.stderr.isatty():
        return job.wait(timeout)
    end = None if timeout is None else time.monotonic() + timeout
    with _line() as line:
        while True:
            left = None if end is None else end - time.monotonic()
            try:
                return job.wait(_EVERY if left is None else max(min(left, _EVERY), 0))
            except StillRunning:
                if left is not None and left <= _EVERY:
                    raise
            line.show(_told(job))


def _told(job: Job) -> str:
    status = job.status()
    since = status.started_at or status.queued_at
    parts = [status.id, status.state, age(since, time.time())]
    if status.current is not None:
        parts.append(current(status.current))
    elif status.reason:
        parts.append(status.reason)
    return " ".join(parts)


@contextmanager
def _line() -> Iterator[_Line]:
    line = _Line()
    try:
        yield line
    finally:
        line.clear()


class _Line:
    """One line that is written over again."""

    def __init__(self) -> None:
        self._used = False

    def show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[K" + render.shortened(render.safe(text), width))
        sys.stderr.flush()
        self._used = True

    def clear(self) -> None:
        if self._used:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
