"""The blocking client: `jobsup.connect()`.

A Supervisor may be used by several threads at once: each call has a connection of its own, taken
from those that are kept idle. What an iterator (`output`, `events`) holds is one thread's.
"""

from __future__ import annotations

import os
import select
import socket as sockets
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

from ..protocol import (
    SOCKET,
    SOCKET_VARIABLE,
    Attempt,
    Control,
    Doctor,
    Event,
    JobStatus,
    JobSummary,
    Ping,
    Started,
)
from . import calls, follow
from .errors import NoDaemon
from .flow import (
    Connect,
    Drop,
    Flow,
    Give,
    Pause,
    Receive,
    Release,
    Send,
    Step,
    request,
)
from .follow import PATIENCE, Frame, Wanted

if TYPE_CHECKING:
    from ..verdict import Verdict
    from .asked import StartOptions

T = TypeVar("T")
Stream = Literal["stdout", "stderr"]

_CHUNK = 1 << 16
_IDLE_MOST = 8  # connections that are kept


def connect(socket: str | os.PathLike[str] | None = None, *, wait: float = 0) -> Supervisor:
    """A client of the daemon at this socket; else at JOBSUP_SOCKET, else at the usual one.

    Args:
        wait: seconds that a daemon may take to come up.

    Raises:
        NoDaemon: nobody answers there.
    """
    supervisor = Supervisor(socket_path(socket))
    supervisor.ping(wait=wait)
    return supervisor


def socket_path(socket: str | os.PathLike[str] | None = None) -> str:
    """Where the daemon is looked for."""
    return os.fspath(socket) if socket else os.environ.get(SOCKET_VARIABLE) or SOCKET


class Supervisor:
    """A daemon and its jobs, as far as they are the caller's. Safe to share among threads."""

    def __init__(self, socket: str, *, deadline: float | None = None) -> None:
        """Connects when it is first asked for something.

        Args:
            deadline: seconds of silence after which a call fails with TimeoutError.
        """
        self.socket = socket
        self.deadline = deadline
        self._idle: deque[sockets.socket] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept; jobs go on. The object may be used again."""
        while self._idle:
            self._idle.popleft().close()

    # ---- jobs

    def start(self, argv: Sequence[Any], **options: Unpack[StartOptions]) -> Job:
        """Start a job, or queue it; returns when it is certain that it will run.

        Args:
            argv: the command and its arguments.
            options: as for jobsup.run, and: `stdin` (bytes, the path of a file, an open file;
                nothing unless given), `after` ("10s"), `at` ("2026-12-01T02:00"), `every` (cron),
                `restart` ("no", "on-failure:3", "always"), `name`.

        Raises:
            BadValue: naming the option that cannot be.
            JobsupError: it was refused; nothing is left of it.
            Disconnected: the daemon went away before it answered; the job may have been taken.
        """
        from .asked import submission

        return Job(self, self.run(request(submission(argv, options))))

    def job(self, ref: str) -> Job:
        """The job of this id, unique beginning of an id, or name.

        Raises:
            NoSuchJob, Ambiguous
        """
        return Job(self, self.run(request(calls.status(ref))))

    def jobs(self, *, state: str | None = None, name: str | None = None) -> Iterator[JobSummary]:
        """Every job, the newest first, page by page."""
        after: str | None = None
        while True:
            page = self.run(request(calls.page(state, name, after)))
            yield from page.jobs
            after = page.next
            if after is None:
                return

    def prune(self, *, older: float | str = 0.0, state: str | None = None) -> list[str]:
        """Remove jobs that ended longer ago than `older`; their ids."""
        return self.run(request(calls.prune(older, state))).removed

    def events(self, ref: str | None = None) -> Iterator[Event]:
        """What happens from now on, until the daemon goes away (Disconnected)."""
        return self.iterate(follow.events(ref))

    # ---- the daemon itself

    def ping(self, *, wait: float = 0) -> Ping:
        """That it is there, or comes up within `wait` seconds."""
        return self.run(follow.reached(wait))

    def doctor(self) -> Doctor:
        """What the host has of what jobs need, as the daemon sees it."""
        return self.run(request(calls.doctor()))

    def control(self, what: str | None = None) -> Control:
        """Where the daemon is; with `what` (start, stop, terminate), where it is then."""
        asked = calls.control() if what is None else calls.set_control(what)
        return self.run(request(asked))

    # ---- for the rest of this package

    def run(self, flow: Flow[T]) -> T:
        """What the flow returns."""
        driven = self.iterate(flow)
        while True:
            try:
                next(driven)
            except StopIteration as end:
                result: T = end.value
                return result

    def iterate(self, flow: Flow[T]) -> Generator[Any, None, T]:
        """Do the flow's I/O; yields what it gives."""
        answer: Any = None
        failed: Exception | None = None
        with _line(self) as line:
            while True:
                try:
                    step = flow.send(answer) if failed is None else flow.throw(failed)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = failed = None
                if isinstance(step, Give):
                    yield step.item
                    continue
                try:
                    answer = line.do(step)
                except (OSError, NoDaemon) as error:
                    failed = error

    def borrow(self) -> sockets.socket | None:
        """A kept connection that the daemon has neither closed nor written to."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if not is_readable(kept):
                return kept
            kept.close()
        return None

    def give_back(self, connection: sockets.socket) -> None:
        if len(self._idle) < _IDLE_MOST:
            self._idle.append(connection)
        else:
            connection.close()


def is_readable(connection: sockets.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def connected(path: str, deadline: float | None = None) -> sockets.socket:
    """A new connection.

    Raises:
        NoDaemon: nobody answers there.
    """
    connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_CLOEXEC)
    connection.settimeout(deadline)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise NoDaemon(path, error) from None
    return connection


@contextmanager
def _line(supervisor: Supervisor) -> Iterator[Line]:
    line = Line(supervisor)
    try:
        yield line
    finally:
        line.drop()


class Line:
    """The connection of one flow."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._connection: sockets.socket | None = None

    def do(self, step: Step) -> Any:  # noqa: ANN401 - each step has its own answer
        """Do the step; returns what the flow is to be told."""
        match step:
            case Connect(fresh):
                return self._connect(fresh)
            case Send(data):
                self.connection.sendall(data)
            case Receive():
                return self.connection.recv(_CHUNK)
            case Release():
                self._supervisor.give_back(self.connection)
                self._connection = None
            case Drop():
                self.drop()
            case Pause(seconds):
                time.sleep(seconds)
        return None

    def _connect(self, fresh: bool) -> bool:
        self.drop()
        self._connection = None if fresh else self._supervisor.borrow()
        if self._connection is not None:
            return False
        self._connection = connected(self._supervisor.socket, self._supervisor.deadline)
        return True

    @property
    def connection(self) -> sockets.socket:
        assert self._connection is not None, "a flow connects before it sends"
        return self._connection

    def drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


class Job:
    """One job of a daemon's, by its id."""

    def __init__(self, supervisor: Supervisor, known: Started | JobStatus) -> None:
        self._supervisor = supervisor
        self.id = known.id

    def __repr__(self) -> str:
        return f"<jobsup job {self.id}>"

    def status(self) -> JobStatus:
        """All that is known of it."""
        return self._supervisor.run(request(calls.status(self.id)))

    def verdict(self) -> Verdict | None:
        """Why its last attempt ended; None while the first one has not."""
        from .asked import verdict_of

        return verdict_of(self.status())

    def attempts(self) -> list[Attempt]:
        """Its runs so far, those that are kept."""
        return self.status().attempts

    def wait(self, timeout: float | None = None, *, patience: float = PATIENCE) -> Verdict:
        """Wait for its end.

        Args:
            timeout: seconds to wait at most.
            patience: seconds that the daemon may be away meanwhile, as when it is restarted.

        Raises:
            StillRunning: the time is over.
        """
        from .asked import verdict_at_end

        flow = follow.waited(self.id, timeout, patience)
        return verdict_at_end(self._supervisor.run(flow))

    def output(
        self,
        stream: Stream | None = None,
        *,
        follow: bool = True,
        offset: int = 0,
        since: str | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        patience: float = PATIENCE,
    ) -> Iterator[bytes]:
        """The output of its last run from the first byte, as it comes, and of those that follow,
        until the job has ended.

        Args:
            stream: one of the two; both, in the order in which they were written, unless said.
            follow: False for what there is now.
            offset: bytes to leave out at the beginning; this, `since` and `tail` are of one run,
                those that follow are whole.
            since: only what was written since then ("10m" ago, or RFC 3339).
            tail: only so many lines of what there is.
            attempt: this run alone, until it has ended.
            patience: seconds that the daemon may be away; no byte is lost or repeated meanwhile.
        """
        wanted = Wanted(stream, follow, offset, since, tail, attempt)
        return self._supervisor.iterate(_follow.output(self.id, wanted, patience))

    def frames(
        self,
        stream: Stream | None = None,
        *,
        follow: bool = True,
        offset: int = 0,
        since: str | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        patience: float = PATIENCE,
    ) -> Iterator[Frame]:
        """As `output`: (stream, time_ns, bytes) for each piece, the time in ns since 1970."""
        wanted = Wanted(stream, follow, offset, since, tail, attempt)
        return self._supervisor.iterate(_follow.frames(self.id, wanted, patience))

    def stop(self, signal: str | int | None = None, grace: float | str | None = None) -> None:
        """Ask it to end (SIGTERM unless said), and kill it after the grace (its own unless said).
        Does not wait."""
        self._supervisor.run(request(calls.stop(self.id, signal, grace)))

    def kill(self) -> None:
        """End all of its processes."""
        self._supervisor.run(request(calls.act(self.id, "kill")))

    def signal(self, signal: str | int) -> None:
        """Send a signal to the process group of its first process."""
        self._supervisor.run(request(calls.signal(self.id, signal)))

    def pause(self) -> None:
        """Freeze it; its time limit stands still."""
        self._supervisor.run(request(calls.act(self.id, "pause")))

    def resume(self) -> None:
        self._supervisor.run(request(calls.act(self.id, "resume")))

    def set(self, **limits: object) -> None:
        """Change limits of the running job, such as mem="512M"; all of them or none."""
        self._supervisor.run(request(calls.change(self.id, _plain(limits))))

    def remove(self, *, force: bool = False) -> None:
        """Forget an ended job and its output; with `force` a running one is killed first."""
        self._supervisor.run(request(calls.remove(self.id, force=force)))


_follow = follow  # which `output(follow=…)` hides


def _plain(limits: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in limits.items() if value is not None}
