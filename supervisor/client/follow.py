"""What lasts: waiting for an end, following output and events. No I/O.

A daemon that restarts does not end a job, so what lasts goes on when its connection breaks: it asks
again with growing pauses, for as long as its patience lasts, counted from the last word of the
daemon. Output goes on at the byte after the last one that came, in the same attempt. It is whole
when the answer's last chunk has come; a connection that merely ends is never taken for that.

One request is for one attempt's output. Who follows a job, and not one attempt of it, asks for the
next attempt when that of one is whole: the daemon answers once it has begun, or refuses once the
job has ended without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from ..errors import BadValue, NoSuchJob, NotReady
from ..protocol import ENDED, FRAME_HEAD, STREAMS, JobStatus, Ping
from . import calls
from .errors import ApiError, Disconnected, NoDaemon, StillRunning
from .flow import Flow, Give, Pause, opened, request

T = TypeVar("T")

PATIENCE = 60.0  # seconds without a daemon

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_STREAM_NAMES = {number: name for name, number in STREAMS.items()}


class Frame(NamedTuple):
    """A piece of output: `data` was written to `stream` at `time_ns` (CLOCK_REALTIME)."""

    stream: str
    time_ns: int
    data: bytes


def persistent(attempt: Callable[[], Flow[T]], patience: float, heard: Heard) -> Flow[T]:
    """The attempt, made again when the daemon goes away. The first one must find a daemon."""
    while True:
        try:
            return (yield from attempt())
        except (NoDaemon, Disconnected, NotReady):
            if heard.silence(patience):
                raise
            yield Pause(heard.pause())


class Heard:
    """When the daemon was heard last, and how long to pause before it is asked again."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._pause = 0.0
        self._ever = False

    def note(self) -> None:
        """The daemon has answered."""
        self._ever, self._until, self._pause = True, None, 0.0

    def silence(self, patience: float) -> bool:
        """Whether it is not worth asking again."""
        now = time.monotonic()
        self._until = now + patience if self._until is None else self._until
        return not self._ever or now >= self._until

    def pause(self) -> float:
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        return self._pause


def reached(patience: float) -> Flow[Ping]:
    """The daemon's answer to a ping, if need be once it has come up."""
    heard = Heard()
    heard.note()  # the first attempt may be in vain, too
    return (yield from persistent(lambda: request(calls.ping()), patience, heard))


def waited(
    ref: str, timeout: float | None = None, patience: float = PATIENCE, *, answered: bool = False
) -> Flow[JobStatus]:
    """Returns the status of the job once it has ended; `answered`: a daemon has been heard of it
    already, so it is waited for from the first.

    Raises:
        StillRunning: it has not, after `timeout` seconds.
    """
    heard = Heard()
    if answered:
        heard.note()
    end = None if timeout is None else time.monotonic() + timeout

    def attempt() -> Flow[JobStatus]:
        # Asked by its whole id from now on, and known to be answered for.
        known = yield from request(calls.status(ref))
        heard.note()
        if known.state in ENDED:
            return known
        left = None if end is None else max(end - time.monotonic(), 0)
        return (yield from request(calls.wait(known.id, left)))

    status = yield from persistent(attempt, patience, heard)
    if status.state not in ENDED:
        raise StillRunning(f"job {status.id} has not ended after {timeout:g} s")
    return status


class Wanted(NamedTuple):
    """Which of a job's output. Offsets count the bytes of the stream, or of both together."""

    stream: str | None = None
    follow: bool = True
    offset: int = 0
    since: str | None = None
    tail: int | None = None
    attempt: int | None = None


def output(ref: str, wanted: Wanted, patience: float = PATIENCE) -> Flow[None]:
    """Gives bytes, until the job, or the attempt that is wanted, has ended; without `follow` what
    there is of the last one."""
    yield from _Following(ref, wanted, patience).run()


def frames(ref: str, wanted: Wanted, patience: float = PATIENCE) -> Flow[None]:
    """Gives Frames, as `output` gives bytes."""
    yield from _Following(ref, wanted, patience, Unframing()).run()


class _Following:
    """Where one reader is in a job's output: at which byte of which attempt."""

    def __init__(
        self, ref: str, wanted: Wanted, patience: float, unframing: Unframing | None = None
    ) -> None:
        self._ref = ref
        self._wanted = wanted
        self._patience = patience
        self._unframing = unframing
        self._heard = Heard()

    def run(self) -> Flow[None]:
        goes_on = self._wanted.follow and self._wanted.attempt is None
        yield from persistent(self._attempt, self._patience, self._heard)
        while goes_on and (yield from persistent(self._next, self._patience, self._heard)):
            try:
                yield from persistent(self._attempt, self._patience, self._heard)
            except NoSuchJob:
                continue  # the attempt is not kept, or the job has been removed
            except BadValue as error:
                if error.field != "attempt":
                    raise
                # The job has ended without it.

    def _next(self) -> Flow[bool]:
        """Go to the beginning of the attempt after this one; False: the job has ended."""
        done = self._wanted.attempt or 0
        try:
            status = yield from request(calls.status(self._ref))
        except NoSuchJob:  # only what has ended is removed
            return False
        self._heard.note()
        if status.state in ENDED and status.attempt <= done:
            return False
        # Those that a slow reader missed are not kept for ever.
        kept = [run.attempt for run in status.attempts if run.attempt > done]
        attempt = min([*kept, max(status.attempt, done + 1)])
        self._wanted = self._wanted._replace(attempt=attempt, offset=0)
        return True

    def _attempt(self) -> Flow[None]:
        if self._wanted.follow:
            # Tells that there is a daemon, however long it takes until there is output.
            status = yield from request(calls.status(self._ref))
            self._heard.note()
            self._ref = status.id
            if self._wanted.attempt is None:
                self._wanted = self._wanted._replace(attempt=_last_run(status))
        asked = {**self._wanted._asdict(), "offset": self._wanted.offset or None}
        framed = self._unframing is not None
        response = yield from opened(calls.output(self._ref, frames=framed, **asked))
        self._heard.note()
        self._begin(response.headers)
        while (data := (yield from response.data())) is not None:
            self._heard.note()
            for item, size in self._items(data):
                self._wanted = self._wanted._replace(offset=self._wanted.offset + size)
                yield Give(item)

    def _begin(self, headers: Mapping[bytes, bytes]) -> None:
        """What is asked for by time or by lines is known by its offset from now on, and the last
        attempt by its number."""
        if self._unframing is not None:
            self._unframing.restart()
        start = _number(headers, b"jobsup-offset")
        attempt = self._wanted.attempt or _number(headers, b"jobsup-attempt")
        self._wanted = self._wanted._replace(
            offset=self._wanted.offset if start is None else start,
            since=None,
            tail=None,
            attempt=attempt,
        )

    def _items(self, data: bytes) -> Iterator[tuple[bytes | Frame, int]]:
        """What the bytes bring, and how much output it is."""
        if self._unframing is None:
            yield data, len(data)
            return
        for frame in self._unframing.take(data):
            yield frame, len(frame.data)


def _last_run(status: JobStatus) -> int:
    """Where a follower begins: as who only reads, with the last attempt that has begun."""
    waits = status.state == "queued" or (status.state == "stopped" and status.started_at is None)
    return max(status.attempt - 1, 1) if waits else status.attempt


def _number(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    told = headers.get(name)
    if told is not None and not told.isdigit():
        raise ApiError(f"the daemon's answer is not understood: {name.decode()} {told!r}")
    return None if told is None else int(told)


class Unframing:
    """Frames out of the bytes of an answer, without waiting for the end of a long one."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another answer begins, with a header."""
        self._pending = b""
        self._left = 0
        self._stream, self._time_ns = "stdout", 0

    def take(self, data: bytes) -> Iterator[Frame]:
        pending = memoryview(self._pending + data if self._pending else data)
        while pending:
            if not self._left:
                if len(pending) < FRAME_HEAD.size:
                    break
                self._begin(pending)
                pending = pending[FRAME_HEAD.size :]
                continue
            piece, pending = pending[: self._left], pending[self._left :]
            self._left -= len(piece)
            yield Frame(self._stream, self._time_ns, bytes(piece))
        self._pending = bytes(pending)

    def _begin(self, pending: memoryview) -> None:
        stream, self._left, _, self._time_ns = FRAME_HEAD.unpack_from(pending)
        if stream not in _STREAM_NAMES:
            raise ApiError(f"the daemon's answer is not understood: a frame of stream {stream}")
        self._stream = _STREAM_NAMES[stream]


def events(ref: str | None = None) -> Flow[None]:
    """Gives Events as they happen.

    Raises:
        Disconnected: the daemon went away; what happens meanwhile is not told.
    """
    response = yield from opened(calls.events(ref))
    rest = b""
    while (data := (yield from response.data())) is not None:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield Give(calls.event_of(line))
