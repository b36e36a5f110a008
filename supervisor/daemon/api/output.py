"""GET /jobs/{ref}/out: a job's output as the body of an answer.

The body is chunked, and its last chunk is sent only when all that was asked for has been: a client
tells a whole output from one whose daemon went away. To a client of HTTP/1.0, which knows no
chunks, the end of the connection has to do.

An answer is of one attempt, which its head names. Who follows a job that is run again asks for the
next attempt when that of one has ended; that is waited for, and refused once the job has ended
without it.

With frames=1 each burst of bytes comes after a head (protocol.FRAME_HEAD) that says what its entry
of the index says, with length and offset cut to what is sent of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from aiohttp.http import HttpVersion11
from aiohttp.web_response import StreamResponse

from ...errors import BadValue, WrongState
from ...protocol import FRAME_HEAD, STREAMS
from ..records import Record
from ..views import last_run
from .call import Call
from .reading import Asked, Reader, begin
from .refusals import Refusal
from .seam import Output
from .sending import PIECE, Line
from .spool import Entry, Spool

T = TypeVar("T")

_FEW = 4096  # entries
_GATHERED = 64 << 10  # what is shorter is read and sent with its neighbours
KIND = {False: "application/octet-stream", True: "application/vnd.jobsup.frames"}


async def out(call: Call) -> StreamResponse:
    """The handler."""
    record = await call.job()
    asked = _asked(call)
    view = _view(call, record)
    # Also what is there already may take a client for ever.
    with call.house.limits.following(call.peer):
        follow = call.query.get("follow", False)
        return await _answer(call, record, view, asked, follow=follow)


def _asked(call: Call) -> Asked:
    query = call.query
    return Asked(
        query.get("stream"),
        query.get("frames", False),
        query.get("offset", 0),
        query.get("tail"),
        query.get("since"),
    )


def _view(call: Call, record: Record) -> Output:
    attempt = call.query.get("attempt")
    follow = call.query.get("follow", False)
    # A follower may wait for the one that may come next.
    if attempt is not None and attempt > record.attempt + follow:
        raise _not_begun(record, attempt)
    if record.attached:
        raise WrongState(f"the output of job {record.id} went to who ran it in the foreground")
    if attempt is None and not follow:
        attempt = last_run(record)
    return call.engine.spool(record, attempt)


def _not_begun(record: Record, attempt: int) -> BadValue:
    return BadValue("attempt", attempt, f"is not begun: the present one is {record.attempt}")


async def _answer(
    call: Call, record: Record, view: Output, asked: Asked, *, follow: bool
) -> StreamResponse:
    with call.line() as line:
        if follow:
            await view.wait_begun()
            if view.attempt > record.attempt:  # and the job has ended
                raise _not_begun(record, view.attempt)
        complete = view.complete
        try:
            spool = Spool(view.directory)
        except FileNotFoundError:
            return await _nothing(call, view, asked, complete=complete)
        with spool:
            reader, position = await _begun(call, spool, asked, complete=complete)
            answer = await _head(call, view, asked, position)
            if call.request.method != "HEAD":
                body = _Body(call, line, spool, reader, framed=asked.framed)
                await body.send(view, follow=follow, complete=complete)
            return answer


async def _nothing(call: Call, view: Output, asked: Asked, *, complete: bool) -> StreamResponse:
    """Of a run that has not begun, that could not be started, or that is long past."""
    if complete and call.query.get("attempt") is not None and not view.directory.exists():
        raise Refusal("not-found", f"the output of attempt {view.attempt} is not kept")
    return await _head(call, view, asked, 0)


async def _begun(call: Call, spool: Spool, asked: Asked, *, complete: bool) -> tuple[Reader, int]:
    return await _sought(call, spool, partial(begin, spool, asked, complete=complete))


async def _sought(call: Call, spool: Spool, work: Callable[[], T]) -> T:
    """The result of work that looks through an output: beside the loop, unless it is small."""
    if spool.count() <= _FEW and max(map(spool.size, STREAMS.values())) <= PIECE:
        return work()
    search = asyncio.get_running_loop().run_in_executor(call.house.searches, work)
    try:
        return await asyncio.shield(search)
    except asyncio.CancelledError:
        # The files are not closed under a thread that reads them.
        await asyncio.wait((search,))
        raise


async def _head(call: Call, view: Output, asked: Asked, position: int) -> StreamResponse:
    answer = StreamResponse(
        headers={
            "Server": "jobsup",
            "Content-Type": KIND[asked.framed],
            "Jobsup-Offset": str(position),
            "Jobsup-Attempt": str(view.attempt),
        }
    )
    writer = await answer.prepare(call.request)
    assert writer is not None
    # What is sent by hand must come after it.
    await writer.drain()
    return answer


class _Body:
    """The bytes of one answer, on their way."""

    def __init__(
        self, call: Call, line: Line, spool: Spool, reader: Reader, *, framed: bool
    ) -> None:
        self._call = call
        self._line = line
        self._spool = spool
        self._reader = reader
        self._framed = framed
        self._chunked = call.request.version >= HttpVersion11

    async def send(self, view: Output, *, follow: bool, complete: bool) -> None:
        """All that is there; with `follow` all that will be."""
        if follow and not complete:
            await self._follow(view)
            complete = True
        if complete:
            await _sought(self._call, self._spool, self._reader.finish)
        await self._present()

    async def _follow(self, view: Output) -> None:
        """Until nothing will be added; what was added last may not be sent then."""
        ended = asyncio.ensure_future(view.wait_complete())
        path = view.directory / self._reader.watched
        try:
            with self._call.house.growth.following(path) as growing:
                while not ended.done():
                    more = growing.more()
                    await self._present()
                    # Also when something was sent: wakings are apart, so pieces are large.
                    await asyncio.wait((more, ended), return_when=asyncio.FIRST_COMPLETED)
            ended.result()
        finally:
            ended.cancel()

    async def _present(self) -> None:
        """Send what is there now."""
        while (entries := self._reader.take(PIECE)) or not self._reader.dry:
            await self._chunk(entries)
            # A client that is as fast as we are must not have the loop for itself.
            await asyncio.sleep(0)

    async def _chunk(self, entries: list[Entry]) -> None:
        size = sum(entry.length for entry in entries)
        size += len(entries) * FRAME_HEAD.size if self._framed else 0
        if not size:
            return
        start, end = (f"{size:x}\r\n".encode(), b"\r\n") if self._chunked else (b"", b"")
        gathered = [start]
        for entry in entries:
            if self._framed:
                gathered.append(FRAME_HEAD.pack(*entry))
            if entry.length > _GATHERED:
                await self._line.send(b"".join(gathered))
                gathered = []
                file = self._spool.descriptor(entry.stream)
                await self._line.send_file(file, entry.offset, entry.length)
            else:
                gathered.append(self._spool.read(entry))
        await self._line.send(b"".join([*gathered, end]))
