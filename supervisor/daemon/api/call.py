"""One request on its way through its handler, and what all handlers share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from aiohttp.web_protocol import RequestPayloadError
from aiohttp.web_request import BaseRequest

from ...errors import BadRequest
from ..peer import Peer
from ..records import Record
from ..settings import Settings
from .connection import Connection
from .followers import Growth
from .host import HostLook
from .limits import Limits
from .refusals import Refusal
from .seam import Supervised
from .sending import HangUps, Line

T = TypeVar("T")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class House:
    """What there is once a daemon."""

    def __init__(self, engine: Supervised, settings: Settings, limits: Limits) -> None:
        self.engine = engine
        self.settings = settings
        self.limits = limits
        self.header_seconds = settings.header_seconds
        self.growth = Growth()
        self.hang_ups = HangUps()
        self.host = HostLook()
        self.answers: Counter[int] = Counter()  # by status
        self.started = time.monotonic()
        self.terminating = False
        # Looking for lines or times in a large output takes long, and must not stop the loop.
        self.searches = ThreadPoolExecutor(2, "search")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """The present task gives an answer that may last: `cut_off` ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._lasting.add(task)
        try:
            yield
        finally:
            self._lasting.discard(task)

    def cut_off(self) -> None:
        """End the answers that last, incomplete."""
        for task in self._lasting:
            task.cancel()

    async def see_through(self, work: Awaitable[T]) -> T:
        """Await it; it goes on to its end also when the client, and so the handler, goes away."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def close(self, deadline: float) -> None:
        """What was begun may end until then, in the loop's time. Some of it waits for a job, which
        may never end; what must not be left half done, the engine sees through by itself."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline - asyncio.get_running_loop().time())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.growth.close()
        self.hang_ups.close()
        self.searches.shutdown()


@dataclass(slots=True)
class Call:
    """One request. `ref` is the job that its path names, `query` what stands behind the ?."""

    house: House
    request: BaseRequest
    connection: Connection
    ref: str = ""
    query: dict[str, Any] = field(default_factory=dict)

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    @property
    def engine(self) -> Supervised:
        return self.house.engine

    async def job(self) -> Record:
        """The job that the path names.

        Raises:
            NoSuchJob, Ambiguous
        """
        return await self.engine.find(self.ref, self.peer)

    @contextmanager
    def line(self) -> Iterator[Line]:
        """The connection, for an answer that may last.

        Raises:
            ConnectionError: it is gone.
        """
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        with self.house.lasting(), Line(transport, self.house.hang_ups) as line:
            yield line

    def welcome_body(self) -> None:
        """Say so to a client that asks before it sends (curl does, from a megabyte on)."""
        transport = self.request.transport
        expected = self.request.headers.get("Expect", "").lower()
        if expected == "100-continue" and transport is not None:
            transport.write(_CONTINUE)

    async def body(self) -> bytes:
        """All of the body.

        Raises:
            Refusal: it is too large, or does not come.
        """
        most, seconds = self.house.settings.body_max, self.house.header_seconds
        if (self.request.content_length or 0) > most:
            raise too_large(most)
        self.welcome_body()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while part := await self.request.content.readany():
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        raise too_large(most)
        except TimeoutError:
            raise too_slow(seconds) from None
        except RequestPayloadError as error:
            raise BadRequest(f"the body cannot be read: {error}") from None
        return b"".join(parts)

    async def message(self, kind: type[T]) -> T:
        """The body as a message; an empty one as a message that says nothing.

        Raises:
            BadRequest: it is no such message.
        """
        return decoded(await self.body() or b"{}", kind)


def decoded(raw: bytes, kind: type[T]) -> T:
    """JSON as a message.

    Raises:
        BadRequest: it is no such message.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body cannot be read: {error}") from None


def too_large(most: int) -> Refusal:
    return Refusal("too-large", f"that is more than {most} bytes")


def too_slow(seconds: float) -> Refusal:
    return Refusal("too-slow", f"nothing more came within {seconds:g} seconds")
