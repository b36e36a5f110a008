"""The asyncio client: `jobsup.aio.connect()`. As blocking.py, with `await`.

Many tasks of one loop may share a Supervisor. Reading a file for a job's stdin blocks the loop for
as long as the file does; hand bytes, or a file on a disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from ..protocol import (
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
from .blocking import Stream, socket_path
from .errors import NoDaemon
from .flow import Connect, Drop, Flow, Give, Pause, Receive, Release, Send, Step, request
from .follow import PATIENCE, Frame, Wanted

if TYPE_CHECKING:
    from ..verdict import Verdict
    from .asked import StartOptions

T = TypeVar("T")

_CHUNK = 1 << 16
_IDLE_MOST = 8  # connections that are kept

_Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def connect(socket: str | os.PathLike[str] | None = None, *, wait: float = 0) -> Supervisor:
    """A client of the daemon at this socket; else at JOBSUP_SOCKET, else at the usual one. The
    daemon may take `wait` seconds to come up.

    Use it as `async with jobsup.aio.connect() as supervisor:`, which raises NoDaemon when nobody
    answers there.
    """
    return Supervisor(socket_path(socket), wait=wait)


class Supervisor:
    """A daemon and its jobs, as far as they are the caller's; of one event loop."""

    def __init__(self, socket: str, *, wait: float = 0) -> None:
        self.socket = socket
        self._wait = wait
        self._idle: deque[_Pipe] = deque()

    async def __aenter__(self) -> Self:
        await self.ping(wait=self._wait)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that are kept; jobs go on."""
        while self._idle:
            _, writer = self._idle.popleft()
            writer.close()

    # ---- jobs

    async def start(self, argv: Sequence[Any], **options: Unpack[StartOptions]) -> Job:
        """As Supervisor.start of the blocking client."""
        from .asked import submission

        return Job(self, await self.run(request(submission(argv, options))))

    async def job(self, ref: str) -> Job:
        """The job of this id, unique beginning of an id, or name."""
        return Job(self, await self.run(request(calls.status(ref))))

    async def jobs(
        self, *, state: str | None = None, name: str | None = None
    ) -> AsyncGenerator[JobSummary]:
        """Every job, the newest first, page by page."""
        after: str | None = None
        while True:
            page = await self.run(request(calls.page(state, name, after)))
            for summary in page.jobs:
                yield summary
            after = page.next
            if after is None:
                return

    async def prune(self, *, older: float | str = 0.0, state: str | None = None) -> list[str]:
        """Remove jobs that ended longer ago than `older`; their ids."""
        return (await self.run(request(calls.prune(older, state)))).removed

    def events(self, ref: str | None = None) -> AsyncIterator[Event]:
        """What happens from now on, until the daemon goes away (Disconnected)."""
        return self.iterate(follow.events(ref))

    # ---- the daemon itself

    async def ping(self, *, wait: float = 0) -> Ping:
        """That it is there, or comes up within `wait` seconds."""
        return await self.run(follow.reached(wait))

    async def doctor(self) -> Doctor:
        """What the host has of what jobs need, as the daemon sees it."""
        return await self.run(request(calls.doctor()))

    async def control(self, what: str | None = None) -> Control:
        """Where the daemon is; with `what` (start, stop, terminate), where it is then."""
        asked = calls.control() if what is None else calls.set_control(what)
        return await self.run(request(asked))

    # ---- for the rest of this package

    async def run(self, flow: Flow[T]) -> T:
        """What the flow returns."""
        driving = _Driving(self, flow)
        async with aclosing(driving.items()) as items:
            async for _ in items:
                pass
        return driving.result

    def iterate(self, flow: Flow[Any]) -> AsyncGenerator[Any]:
        """Do the flow's I/O; yields what it gives."""
        return _Driving(self, flow).items()

    def borrow(self) -> _Pipe | None:
        """A kept connection that the daemon has not closed."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return None

    def give_back(self, pipe: _Pipe) -> None:
        if len(self._idle) < _IDLE_MOST:
            self._idle.append(pipe)
        else:
            pipe[1].close()


class _Driving(Generic[T]):
    """One flow, and its connection."""

    result: T

    def __init__(self, supervisor: Supervisor, flow: Flow[T]) -> None:
        self._supervisor = supervisor
        self._flow = flow
        self._pipe: _Pipe | None = None

    async def items(self) -> AsyncGenerator[Any]:
        """What the flow gives; `result` is set at its end."""
        answer: Any = None
        failed: Exception | None = None
        try:
            while True:
                try:
                    resumed = self._flow
                    step = resumed.send(answer) if failed is None else resumed.throw(failed)
                except StopIteration as end:
                    self.result = end.value
                    return
                answer = failed = None
                if isinstance(step, Give):
                    yield step.item
                    continue
                try:
                    answer = await self._do(step)
                except (OSError, NoDaemon) as error:
                    failed = error
        finally:
            self._drop()

    async def _do(self, step: Step) -> Any:  # noqa: ANN401 - each step has its own answer
        match step:
            case Connect(fresh):
                return await self._connect(fresh)
            case Send(data):
                self.writer.write(data)
                await self.writer.drain()
            case Receive():
                return await self.reader.read(_CHUNK)
            case Release():
                assert self._pipe is not None, "a flow connects first"
                pipe, self._pipe = self._pipe, None
                self._supervisor.give_back(pipe)
            case Drop():
                self._drop()
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None

    async def _connect(self, fresh: bool) -> bool:
        self._drop()
        self._pipe = None if fresh else self._supervisor.borrow()
        if self._pipe is not None:
            return False
        path = self._supervisor.socket
        try:
            self._pipe = await asyncio.open_unix_connection(path, limit=_CHUNK)
        except OSError as error:
            raise NoDaemon(path, error) from None
        return True

    @property
    def reader(self) -> asyncio.StreamReader:
        assert self._pipe is not None, "a flow connects before it receives"
        return self._pipe[0]

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert self._pipe is not None, "a flow connects before it sends"
        return self._pipe[1]

    def _drop(self) -> None:
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            pipe[1].close()


class Job:
    """One job of a daemon's, by its id; each method as that of the blocking client."""

    def __init__(self, supervisor: Supervisor, known: Started | JobStatus) -> None:
        self._supervisor = supervisor
        self.id = known.id

    def __repr__(self) -> str:
        return f"<jobsup job {self.id}>"

    async def status(self) -> JobStatus:
        """All that is known of it."""
        return await self._supervisor.run(request(calls.status(self.id)))

    async def verdict(self) -> Verdict | None:
        """Why its last attempt ended; None while the first one has not."""
        from .asked import verdict_of

        return verdict_of(await self.status())

    async def attempts(self) -> list[Attempt]:
        """Its runs so far, those that are kept."""
        return (await self.status()).attempts

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the daemon keeps the time
        *,
        patience: float = PATIENCE,
    ) -> Verdict:
        """Wait for its end, through a restart of the daemon of at most `patience` seconds.

        Raises:
            StillRunning: `timeout` seconds are over.
        """
        from .asked import verdict_at_end

        flow = follow.waited(self.id, timeout, patience)
        return verdict_at_end(await self._supervisor.run(flow))

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
    ) -> AsyncGenerator[bytes]:
        """The output of its last run from the first byte, as it comes, and of those that follow,
        until the job has ended; of one `attempt` alone, if that is said."""
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
    ) -> AsyncGenerator[Frame]:
        """As `output`: (stream, time_ns, bytes) for each piece, the time in ns since 1970."""
        wanted = Wanted(stream, follow, offset, since, tail, attempt)
        return self._supervisor.iterate(_follow.frames(self.id, wanted, patience))

    async def stop(self, signal: str | int | None = None, grace: float | str | None = None) -> None:
        """Ask it to end, and kill it after the grace. Does not wait."""
        await self._supervisor.run(request(calls.stop(self.id, signal, grace)))

    async def kill(self) -> None:
        """End all of its processes."""
        await self._supervisor.run(request(calls.act(self.id, "kill")))

    async def signal(self, signal: str | int) -> None:
        """Send a signal to the process group of its first process."""
        await self._supervisor.run(request(calls.signal(self.id, signal)))

    async def pause(self) -> None:
        """Freeze it; its time limit stands still."""
        await self._supervisor.run(request(calls.act(self.id, "pause")))

    async def resume(self) -> None:
        await self._supervisor.run(request(calls.act(self.id, "resume")))

    async def set(self, **limits: object) -> None:
        """Change limits of the running job, such as mem="512M"; all of them or none."""
        said = {name: value for name, value in limits.items() if value is not None}
        await self._supervisor.run(request(calls.change(self.id, said)))

    async def remove(self, *, force: bool = False) -> None:
        """Forget an ended job and its output; with `force` a running one is killed first."""
        await self._supervisor.run(request(calls.remove(self.id, force=force)))


_follow = follow  # which `output(follow=…)` hides
