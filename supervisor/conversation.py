"""Being with a job while it runs: its input fed, its captured output kept, signals passed on.

One loop, no threads: a thread that sleeps in read(0) would outlive the job and steal the next line
from the program around us. Output that goes to the caller's own stdout and stderr does not come
through here: the init writes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from jobsup.isolation import Job

_CHUNK = 1 << 16
_SPLICE_MAX = 1 << 20
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
_SPLICE_NONBLOCK = 2  # splice(2)
_FIONREAD = 0x541B  # ioctl_tty(2)


class Feed:
    """Copies a caller's descriptor, or bytes, into the job's stdin, no faster than it is read.

    The job's end is watched all the time, so that its closing is noticed while the source is
    silent; the source is asked for more only when there is room.
    """

    def __init__(self, source: int | bytes, sink: int) -> None:
        self._source = source if isinstance(source, int) else -1
        self._pending = memoryview(b"" if isinstance(source, int) else source)
        self._sink = sink
        self._room = False
        self._splices = True
        os.set_blocking(sink, False)

    def interests(self) -> dict[int, int]:
        """Which descriptors to poll, and for what."""
        if self._sink < 0:
            return {}
        if not self._room:
            return {self._sink: select.POLLOUT}
        return {self._sink: 0, self._source: select.POLLIN}

    def handle(self, ready: dict[int, int]) -> None:
        """Act on what poll said of the descriptors of `interests`."""
        sink, source = ready.get(self._sink, 0), ready.get(self._source, 0)
        if sink & _BROKEN:
            self.close()
        elif sink & select.POLLOUT:
            self._room = True
            self._flush()
        elif source:
            self._move()

    def _flush(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._sink, self._pending) :]
        except BlockingIOError:
            self._room = False
        except BrokenPipeError:
            self.close()
        else:
            if self._source < 0:
                self.close()

    def _move(self) -> None:
        try:
            if not (self._splice() if self._splices else self._copy()):
                self.close()
        except BlockingIOError:
            self._room = False  # or another reader took what was there: both are asked again
        except OSError:
            self.close()  # the job has closed it, the terminal has hung up, or it cannot be read

    def _splice(self) -> int:
        try:
            return os.splice(self._source, self._sink, _SPLICE_MAX, flags=_SPLICE_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._splices = False  # a terminal, a directory …
            return self._copy()

    def _copy(self) -> int:
        self._pending = memoryview(os.read(self._source, _CHUNK))
        count = len(self._pending)
        if count:
            self._flush()
        return count

    def close(self) -> None:
        """The job's stdin ends here. What it has not read of a file is given back: who reads the
        file next finds it, as after a program that read no further."""
        if self._sink >= 0:
            sink, self._sink = self._sink, -1
            if self._source >= 0:
                with suppress(OSError):  # ESPIPE: what came through a pipe has come
                    os.lseek(self._source, -(_unread(sink) + len(self._pending)), os.SEEK_CUR)
            os.close(sink)


def _unread(pipe: int) -> int:
    """Bytes that are in a pipe, as either end tells."""
    return int.from_bytes(fcntl.ioctl(pipe, _FIONREAD, bytes(4)), sys.byteorder)


class Capture:
    """Keeps what comes from one of the job's streams."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._parts: list[bytes] = []

    def interests(self) -> dict[int, int]:
        return {self._source: select.POLLIN} if self._source >= 0 else {}

    def handle(self, ready: dict[int, int]) -> None:
        if not ready.get(self._source):
            return
        data = os.read(self._source, _CHUNK)
        if data:
            self._parts.append(data)
        else:
            self.close()

    def close(self) -> None:
        if self._source >= 0:
            source, self._source = self._source, -1
            os.close(source)

    def collected(self) -> bytes:
        return b"".join(self._parts)


class Relay:
    """Copies what comes from one of the job's streams to a descriptor of our own, None to drop it.
    A sink that does not take it closes the source, so that the job gets its SIGPIPE."""

    def __init__(self, source: int, sink: int | None) -> None:
        self._source = source
        self._sink = sink

    def interests(self) -> dict[int, int]:
        return {self._source: select.POLLIN} if self._source >= 0 else {}

    def handle(self, ready: dict[int, int]) -> None:
        if ready.get(self._source):
            self._move()

    def _move(self) -> None:
        data = memoryview(os.read(self._source, _CHUNK))
        if not data:
            self.close()
        while data and self._sink is not None:
            try:
                data = data[os.write(self._sink, data) :]
            except BlockingIOError:  # somebody has made it non-blocking
                select.select([], [self._sink], [])
            except OSError:
                self.close()
                return

    def finish(self) -> None:
        """After the end of the job: what is still in the pipe."""
        while self._source >= 0:
            self._move()

    def close(self) -> None:
        if self._source >= 0:
            source, self._source = self._source, -1
            os.close(source)


class Alarm:
    """A descriptor that is readable when a signal has come (signal.set_wakeup_fd)."""

    def __init__(self, source: int, deliver: Callable[[int], None]) -> None:
        self._source = source
        self._deliver = deliver

    def interests(self) -> dict[int, int]:
        return {self._source: select.POLLIN}

    def handle(self, ready: dict[int, int]) -> None:
        if ready.get(self._source):
            with suppress(BlockingIOError):
                for number in os.read(self._source, 4096):
                    self._deliver(number)


Party = Feed | Capture | Relay | Alarm


def converse(job: Job, parties: Sequence[Party]) -> None:
    """Serve every party until the job's socket gives EOF and every capture has its last byte."""
    ended = False
    captures = [party for party in parties if isinstance(party, Capture)]
    while not ended or any(capture.interests() for capture in captures):
        interests = {} if ended else {job.fileno(): select.POLLIN}
        for party in parties:
            interests.update(party.interests())
        poll = select.poll()
        for descriptor, events in interests.items():
            poll.register(descriptor, events)
        ready = dict(poll.poll())
        for party in parties:
            party.handle(ready)
        if ready.get(job.fileno()):
            ended = job.receive() is None
