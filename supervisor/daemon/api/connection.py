"""One client's connection: aiohttp's HTTP/1.1, with what it has no option for.

Time. The head of a request must be whole HEAD seconds after its first byte, the first one HEAD
seconds after the connection was made. Between requests a connection may rest as long as it likes;
it is counted, and costs no processor time.

Half-closed clients (`printf … | nc -UN`) have said all that they will say and get their answer.

Whoever is not let in is told so when they ask for something: most clients look for an answer only
after they have sent all of a request, which a connection that is closed does not take.

A connection that cannot be made, whatever the reason, is broken off: else nobody would answer it,
count it, or close it.

Malformed requests are answered in the one shape of all errors. What comes after one is thrown away
as it comes: the answer may have to wait for another's, and nothing is kept meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from ...errors import JobsupError
from ..log import log
from ..peer import Peer, TooManyGroups, peer_of
from .answers import error_answer, raw_answer
from .limits import Limits
from .refusals import Refusal, internal

# Zero would close a connection after its first answer.
_REST = 100 * 365 * 86_400.0
_QUIET = 60.0  # seconds in which connections that fail are told of once


class Host(Protocol):
    """What all connections share."""

    limits: Limits
    header_seconds: float


class Connection(RequestHandler):
    """`peer` is who connected."""

    __slots__ = (
        "_answered",
        "_calm",
        "_half_closed",
        "_head_timer",
        "_host",
        "_last",
        "_leave",
        "_malformed",
        "_refusal",
        "_waiting",
        "peer",
    )

    def __init__(self, manager: Connections, host: Host) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_REST,
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
        )
        self._host = host
        self._head_timer: asyncio.TimerHandle | None = None
        self._half_closed = False
        self._answered = 0
        self._calm: asyncio.Future[None] | None = None  # while it is shut down: nothing is answered
        self._last = False  # no request comes after this one; the rest of its body may
        self._malformed = False  # what came is no HTTP, nor is what comes
        self._leave: Callable[[Peer], None] | None = None  # where it is counted
        self._refusal: JobsupError | None = None
        self._waiting: asyncio.Transport | None = None  # to be told it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        try:
            self._make(transport)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would close it
            self._force_close = True  # and what is received is nothing to aiohttp
            transport.abort()
            assert isinstance(self._manager, Connections)
            self._manager.tell_failure(error)

    def _make(self, transport: asyncio.Transport) -> None:
        limits = self._host.limits
        try:
            self.peer = peer_of(transport.get_extra_info("socket"))
            self._refusal = limits.enter(self.peer)
        except TooManyGroups as error:
            self.peer, self._refusal = error.peer, error
        if self._refusal is not None:
            self._waiting = transport
            if limits.wait_to_be_refused(self.peer):
                self._leave = limits.was_refused
                self._await_head()
            else:
                self._refuse(self._refusal)
            return
        self._leave = limits.leave
        # Nothing is kept for a client that does not read: whoever writes waits for an empty buffer.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        if self._leave is not None:
            self._leave(self.peer)
            self._leave = None
        if self._refusal is None:
            super().connection_lost(exc)
            self._calm_down()

    def _refuse(self, refusal: JobsupError) -> None:
        assert self._waiting is not None
        self._waiting.write(raw_answer(refusal))
        self._waiting.close()

    # ---- requests as they come

    def _await_head(self) -> None:
        if self._head_timer is None:
            seconds = self._host.header_seconds
            self._head_timer = self._loop.call_later(seconds, self._too_slow)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        if self.transport is not None:
            seconds = self._host.header_seconds
            late = Refusal("too-slow", f"no request came within {seconds:g} seconds")
            self.transport.write(raw_answer(late))
        self.force_close()

    @property
    def _busy(self) -> bool:
        return self._request_count > self._answered

    def data_received(self, data: bytes) -> None:
        if self._force_close or self._malformed:
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        before = self._request_count
        super().data_received(data)
        self._look_for_malformed()
        if self._request_count != before:
            self._head_came()
        elif not (self._busy or self._last):
            self._await_head()

    def _look_for_malformed(self) -> None:
        """The traceback of such an error has the frame that was given the data, which has the
        error: that cycle would keep the data until a full collection, which hardly ever comes."""
        said = self._messages[-1][0] if self._messages else None
        if isinstance(said, _ErrInfo):
            said.exc.__traceback__ = None
            self._malformed = True

    def eof_received(self) -> bool:  # type: ignore[override]
        """True keeps the connection open for the answer. A body that is not whole will not become
        so: who waits for it gives up in time."""
        self._half_closed = True
        return self._busy

    async def finish_response(
        self, request: BaseRequest, resp: StreamResponse, start_time: float | None
    ) -> tuple[StreamResponse, bool]:
        result = await super().finish_response(request, resp, start_time)
        self._answered += 1
        self._last = not resp.keep_alive
        self._calm_down()
        if self._half_closed and not self._messages:
            self.close()
        return result

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Give the answer that is under way so much time, then break the connection off.

        aiohttp's own way cancels what it waits for when the time is over, and fails when the answer
        ends in that moment; so it comes to that only when nothing is answered any more.
        """
        if self._busy and self.transport is not None:
            transport, self._calm = self.transport, self._loop.create_future()
            await asyncio.wait([self._calm], timeout=timeout)
            if not self._calm.done():
                transport.abort()
                await self._calm
        await super().shutdown(timeout)

    def _calm_down(self) -> None:
        if self._calm is not None and not self._calm.done():
            self._calm.set_result(None)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """What is no request; what a handler raises does not come here, but for a broken
        connection's errors."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("the answer cannot be given") from exc
        if isinstance(exc, HttpProcessingError):
            what = (message or "").split("\n")[0].rstrip(":")
            answer = error_answer(Refusal("bad-request", f"this is no HTTP request: {what}"))
        else:
            log.error("a request failed", error=exc)
            answer = error_answer(internal())
        answer.force_close()
        return answer


class Connections(Server):
    """Makes them. What their requests are answered with is the handler's."""

    def __init__(self, handler: Any, host: Host) -> None:  # noqa: ANN401 - aiohttp's own type
        # A handler whose client is gone is cancelled.
        super().__init__(handler, handler_cancellation=True)
        self._host = host
        self._quiet_until = 0.0

    def tell_failure(self, error: Exception) -> None:
        """Log that a connection could not be made; not of each one, which anybody could cause."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            log.error("a connection could not be made", error=error)

    def __call__(self) -> RequestHandler:
        return Connection(self, self._host)
