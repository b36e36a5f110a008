"""HTTP/1.1 to the daemon without I/O: what a client does, written once for both of its faces.

Theory of operation. A *flow* is a generator. It yields a step when it needs something of the
outside (bytes to go out, bytes to come in, a moment to pass) and is resumed with the answer, or
with the error, as if the step had been a call. Whoever drives it does the I/O: blocking.py with a
socket, aio.py with a stream, a test with lists of bytes. What a flow returns is the result; what it
yields as `Give` is for who iterates over it.

      flow          ── Connect, Send(data), Receive, Pause(seconds), Release ──▶   driver
                    ◀────────── None, bytes, or an exception ────────────────────

One flow holds one connection at most. A connection whose answer was read to its end is released,
and may serve another flow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import h11
import msgspec

from ..protocol import ErrorBody, ErrorInfo
from .chunks import Chunks, NotChunks
from .errors import ApiError, Disconnected, error_of

if TYPE_CHECKING:
    from ..errors import JobsupError

T = TypeVar("T")
R = TypeVar("R", covariant=True)

_ANSWER_MAX = 64 << 20  # bytes of a message; output is not a message


class Connect(NamedTuple):
    """A connection, kept from an earlier call or new; answered with whether it is new.
    Raises NoDaemon."""

    fresh: bool = False  # only a new one will do


class Send(NamedTuple):
    """These bytes to the daemon."""

    data: bytes


class Receive(NamedTuple):
    """Answered with bytes that came; with none once the other end has closed."""


class Release(NamedTuple):
    """The connection is between two requests."""


class Drop(NamedTuple):
    """Close the connection."""


class Pause(NamedTuple):
    """Let so many seconds go by."""

    seconds: float


class Give(NamedTuple):
    """Something for who iterates."""

    item: Any


Step = Connect | Send | Receive | Release | Drop | Pause | Give
Flow = Generator[Step, Any, T]


class Upload(NamedTuple):
    """A body of a request: its type, and its bytes as they are taken."""

    kind: str
    parts: Iterable[bytes]
    length: int | None = None  # None: not known before


class Call(NamedTuple, Generic[R]):
    """One request, and how its answer is read."""

    method: str
    target: str
    decode: Callable[[bytes], R]
    body: Upload | None = None


def request(call: Call[T]) -> Flow[T]:
    """Make the call; returns what its answer says.

    Raises:
        NoDaemon: nobody answers.
        Disconnected: the daemon went away meanwhile. Whether it did what was asked is not known.
        JobsupError: what the daemon refused.
    """
    response = yield from opened(call)
    return decoded(call.decode, (yield from response.rest()))


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """Raises ApiError for what this client does not understand."""
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        raise ApiError(f"the daemon's answer is not understood: {error}") from error


def opened(call: Call[Any]) -> Flow[Response]:
    """Send the request and read the head of the answer; raises what `request` does."""
    try:
        return (yield from _opened(call, fresh=False))
    except _Stale:
        # A connection that was kept, and closed by the other end while nobody looked.
        return (yield from _opened(call, fresh=True))


def _opened(call: Call[Any], *, fresh: bool) -> Flow[Response]:
    new = yield Connect(fresh)
    response = Response()
    try:
        yield from response.send(call)
        yield from response.head()
    except Disconnected as error:
        yield Drop()
        # Only what may be asked twice: nobody knows how far the daemon came with it.
        if not new and not fresh and call.method == "GET" and not response.answered:
            raise _Stale from error
        if call.method != "GET":
            message = f"{error.message}; whether it did what was asked is not known"
            raise Disconnected(message, hint="jobsup ls --all") from error
        raise
    if response.status >= 400:
        raise refusal(response.status, (yield from response.rest()))
    return response


class _Stale(Exception):
    """A kept connection was closed by the daemon before it took the request."""


def refusal(status: int, body: bytes) -> JobsupError:
    """The error in an answer from 400 on."""
    with suppress(msgspec.DecodeError):
        return error_of(msgspec.json.decode(body, type=ErrorBody).error)
    text = body[:200].decode(errors="replace").strip()
    message = f"the daemon answered {status}: {text}"
    return error_of(ErrorInfo(code="internal", message=message))


class Response:
    """One exchange on a connection, and its answer as it comes."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self._closed = False
        self._chunks = Chunks()
        self._pieces: Iterator[bytes] | None = None
        self.answered = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    def send(self, call: Call[Any], *extra: tuple[str, str]) -> Flow[None]:
        """The request. A daemon that does not read all of it may have answered already."""
        headers = [("host", "jobsup"), ("user-agent", "jobsup"), *extra]
        body = call.body
        if body is not None:
            headers.append(("content-type", body.kind))
            chunked = ("transfer-encoding", "chunked")
            headers.append(chunked if body.length is None else ("content-length", str(body.length)))
        asked = h11.Request(method=call.method, target=call.target, headers=headers)
        try:
            yield from self._put(asked)
            for part in body.parts if body is not None else ():
                yield from self._put(h11.Data(data=part))
            yield from self._put(h11.EndOfMessage())
        except ConnectionError as error:
            if body is None:
                raise Disconnected("the daemon closed the connection") from error

    def _put(self, event: h11.Event) -> Flow[None]:
        data = self._http.send(event)
        if data:
            yield Send(data)

    def head(self) -> Flow[None]:
        """The status and the headers."""
        while not isinstance(event := (yield from self._event()), h11.Response):
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                self.status = 101
                return
        self.status = event.status_code
        self.headers = dict(event.headers)

    def data(self) -> Flow[bytes | None]:
        """The next bytes of the body; None at its end, when all of it has come."""
        if self._chunked:
            return (yield from self._chunk())
        event = yield from self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        # Bytes that came after the answer would be read as the next one.
        tidy = self._http.trailing_data == (b"", False)
        reusable = h11.DONE is self._http.our_state is self._http.their_state
        yield Release() if tidy and reusable else Drop()
        return None

    @property
    def _chunked(self) -> bool:
        """Some answers have no body, whatever their head says (RFC 9112, 6.3)."""
        coding = self.headers.get(b"transfer-encoding", b"").lower()
        return coding == b"chunked" and self.status not in (204, 304)

    def _chunk(self) -> Flow[bytes | None]:
        """As `data`, past h11."""
        if self._pieces is None:
            self._pieces = self._chunks.take(self._http.trailing_data[0])
        try:
            while (piece := next(self._pieces, None)) is None:
                if self._chunks.over:
                    kept = self.headers.get(b"connection", b"").lower() != b"close"
                    yield Release() if kept and not self._chunks.rest else Drop()
                    return None
                self._pieces = self._chunks.take((yield from self._receive()))
        except NotChunks as error:
            raise ApiError(f"what answers is not jobsup: {error}") from error
        return piece

    def _receive(self) -> Flow[bytes]:
        """Bytes that came in the middle of an answer."""
        try:
            data: bytes = yield Receive()
        except ConnectionError as error:
            raise Disconnected("the daemon closed the connection") from error
        if not data:
            raise Disconnected("the daemon went away before its answer was complete")
        return data

    def rest(self) -> Flow[bytes]:
        """All of the body."""
        parts: list[bytes] = []
        size = 0
        while (data := (yield from self.data())) is not None:
            parts.append(data)
            size += len(data)
            if size > _ANSWER_MAX:
                yield Drop()
                raise ApiError("the daemon's answer has no end")
        return b"".join(parts)

    @property
    def leftover(self) -> bytes:
        """What came after a 101."""
        return self._http.trailing_data[0]

    def _event(self) -> Flow[Any]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = yield Receive()
                self._closed = not data
                self.answered = self.answered or bool(data)
                self._http.receive_data(data)
        except ConnectionError as error:
            raise Disconnected("the daemon closed the connection") from error
        except h11.RemoteProtocolError as error:
            if self._closed:
                raise Disconnected("the daemon went away before its answer was complete") from None
            raise ApiError(f"what answers is not jobsup: {error}") from error
        return event
