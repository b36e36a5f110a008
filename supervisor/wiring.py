"""The pipes between a caller and one job's init, each descriptor with one owner.

What the init reads and writes is closed here once it is launched; what is ours is closed when the
stack that was given unwinds.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from jobsup.isolation import LaunchFailed

from .conversation import Capture, Feed, Party, Relay


class Wiring:
    """The ends of one job's streams. `parties` are to be served while it runs."""

    def __init__(self, stack: ExitStack) -> None:
        self.parties: list[Party] = []
        self._stack = stack
        self._theirs = stack.enter_context(ExitStack())

    def close_theirs(self) -> None:
        """Once the init is launched, and has its copies of what it reads and writes."""
        self._theirs.close()

    def theirs(self, descriptor: int) -> None:
        """One more that is closed here once the init has its copy."""
        self._theirs.callback(os.close, descriptor)

    def feed(self, source: int | bytes) -> int:
        """The end that the job reads; it gets a copy of `source`, a descriptor or bytes."""
        read_end, write_end = _pipe()
        self._theirs.callback(os.close, read_end)
        feed = Feed(source, write_end)
        self._stack.callback(feed.close)
        self.parties.append(feed)
        return read_end

    def capture(self) -> tuple[int, Capture]:
        """The end that the init writes, and where what it wrote is kept."""
        read_end, write_end = _pipe()
        self._theirs.callback(os.close, write_end)
        capture = Capture(read_end)
        self._stack.callback(capture.close)
        self.parties.append(capture)
        return write_end, capture

    def relay(self, sink: int | None) -> tuple[int, Relay]:
        """The end that the init writes; what comes there is copied to `sink`, which stays ours, or
        dropped."""
        read_end, write_end = _pipe()
        self._theirs.callback(os.close, write_end)
        relay = Relay(read_end, sink)
        self._stack.callback(relay.close)
        self.parties.append(relay)
        return write_end, relay

    def nowhere(self) -> int:
        """An end that takes everything: /dev/null."""
        return self._null(os.O_WRONLY)

    def nothing(self) -> int:
        """An end that gives nothing: /dev/null."""
        return self._null(os.O_RDONLY)

    def _null(self, mode: int) -> int:
        try:
            null = os.open(os.devnull, mode | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchFailed("opening /dev/null", error.errno) from error
        self._theirs.callback(os.close, null)
        return null


def _pipe() -> tuple[int, int]:
    try:
        return os.pipe()
    except OSError as error:  # no descriptors left
        raise LaunchFailed("making a pipe for the job", error.errno) from error


def is_open(descriptor: int) -> bool:
    """Whether this process has the descriptor; ask before opening others."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
