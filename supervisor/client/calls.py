"""The table of calls: for each one the request, and how its answer is read. No I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TypeVar

import msgspec

from ..errors import BadValue, NoSuchJob
from ..protocol import (
    Control,
    Doctor,
    Event,
    JobPage,
    JobStatus,
    Ping,
    Pruned,
    PruneRequest,
    SignalRequest,
    Started,
    StopRequest,
)
from .flow import Call, Upload, decoded

T = TypeVar("T")

Stdin = bytes | str | os.PathLike[str] | IO[bytes]
"""What a job is to read: bytes, the path of a file, or an open file (read to its end)."""

PAGE = 500  # jobs in one answer
_PART = 1 << 18
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


# ---- of the supervisor


def ping() -> Call[Ping]:
    return Call("GET", "/ping", _reader(Ping))


def doctor() -> Call[Doctor]:
    return Call("GET", "/doctor", _reader(Doctor))


def control() -> Call[Control]:
    return Call("GET", "/control", _reader(Control))


def set_control(what: str) -> Call[Control]:
    """`what` is start, stop or terminate."""
    if what not in ("start", "stop", "terminate"):
        raise BadValue("control", what, "is not a choice", "one of start, stop, terminate")
    return Call("PUT", f"/control/{what}", _reader(Control))


def start(job: Mapping[str, Any], stdin: Stdin | None = None) -> Call[Started]:
    """A job, as Request.to_plain has it.

    Raises:
        BadValue: its stdin cannot be read.
    """
    body = msgspec.json.encode(job)
    upload = _json(body) if stdin is None else _form(body, _parts_of(stdin))
    return Call("POST", "/jobs/run", _reader(Started), upload)


def page(
    state: str | None = None,
    name: str | None = None,
    after: str | None = None,
    limit: int = PAGE,
) -> Call[JobPage]:
    asked = {"state": state, "name": name, "after": after, "limit": limit}
    return Call("GET", "/jobs" + _query(asked), _reader(JobPage))


def prune(older: float | str = 0.0, state: str | None = None) -> Call[Pruned]:
    body = _json_of(PruneRequest(older, state))  # type: ignore[arg-type] # the daemon judges it
    return Call("POST", "/jobs/prune", _reader(Pruned), body)


def events(ref: str | None = None) -> Call[Any]:
    """The answer is a stream of lines, see event_of."""
    return Call("GET", "/events" + _query({"job": ref and _checked(ref)}), _nothing)


def event_of(line: bytes) -> Event:
    return decoded(_reader(Event), line)


# ---- of one job


def status(ref: str) -> Call[JobStatus]:
    return Call("GET", _job(ref, "/status"), _reader(JobStatus))


def wait(ref: str, timeout: float | None = None) -> Call[JobStatus]:
    """Answered when the job has ended, or after `timeout` seconds."""
    told = None if timeout is None else f"{timeout:.6f}"
    return Call("GET", _job(ref, "/wait") + _query({"timeout": told}), _reader(JobStatus))


def output(
    ref: str,
    *,
    stream: str | None = None,
    frames: bool = False,
    follow: bool = False,
    offset: int | None = None,
    since: str | None = None,
    tail: int | None = None,
    attempt: int | None = None,
) -> Call[Any]:
    """The answer is a stream of bytes."""
    asked = {
        "stream": stream,
        "frames": int(frames) or None,
        "follow": int(follow) or None,
        "offset": offset,
        "since": since,
        "tail": tail,
        "attempt": attempt,
    }
    return Call("GET", _job(ref, "/out") + _query(asked), _nothing)


def stop(
    ref: str, signal: str | int | None = None, grace: float | str | None = None
) -> Call[JobStatus | None]:
    return _put(ref, "stop", _json_of(StopRequest(signal, grace)))


def signal(ref: str, number: str | int) -> Call[JobStatus | None]:
    return _put(ref, "signal", _json_of(SignalRequest(number)))


def change(ref: str, options: Mapping[str, Any]) -> Call[JobStatus | None]:
    """New limits for a job; `options` as Spec has them."""
    return _put(ref, "set", _json(msgspec.json.encode(options)))


def act(ref: str, verb: str) -> Call[JobStatus | None]:
    """kill, pause or resume."""
    return _put(ref, verb, None)


def remove(ref: str, *, force: bool = False) -> Call[Any]:
    return Call("DELETE", _job(ref, "") + _query({"force": int(force) or None}), _nothing)


# ---- how they are made


def _put(ref: str, verb: str, body: Upload | None) -> Call[JobStatus | None]:
    return Call("PUT", _job(ref, f"/{verb}"), _perhaps_status, body)


def _perhaps_status(body: bytes) -> JobStatus | None:
    return msgspec.json.decode(body, type=JobStatus) if body.strip() else None


def _nothing(_: bytes) -> None:
    return None


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    return lambda body: msgspec.json.decode(body, type=kind)


def _job(ref: str, rest: str) -> str:
    return f"/jobs/{_checked(ref)}{rest}"


def _checked(ref: str) -> str:
    """What can be no id and no name is no job's; as a path it would be another resource."""
    if _REF.fullmatch(ref):
        return ref
    raise NoSuchJob(f"there is no job {ref!r}", hint="an id, the beginning of one, or a name")


def _query(asked: Mapping[str, object]) -> str:
    """Leaves out what is None."""
    said = [f"{name}={_quoted(str(value))}" for name, value in asked.items() if value is not None]
    return "?" + "&".join(said) if said else ""


def _quoted(text: str) -> str:
    raw = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def _json(body: bytes) -> Upload:
    return Upload("application/json", (body,), len(body))


def _json_of(message: msgspec.Struct) -> Upload:
    return _json(msgspec.json.encode(message))


def _form(job: bytes, stdin: Iterator[bytes]) -> Upload:
    """RFC 7578, of two parts: the job, and the bytes of its stdin."""
    boundary = os.urandom(16).hex().encode()

    def parts() -> Iterator[bytes]:
        yield b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, _head("job", "application/json"), job)
        yield b"--%b\r\n%b\r\n\r\n" % (boundary, _head("stdin", "application/octet-stream"))
        yield from stdin
        yield b"\r\n--%b--\r\n" % boundary

    return Upload(f"multipart/form-data; boundary={boundary.decode()}", parts())


def _head(name: str, kind: str) -> bytes:
    return f'content-disposition: form-data; name="{name}"\r\ncontent-type: {kind}'.encode()


def _parts_of(stdin: Stdin) -> Iterator[bytes]:
    """The bytes, read as they are sent; a path is opened now."""
    if isinstance(stdin, bytes | bytearray | memoryview):
        view = memoryview(stdin)
        return (bytes(view[at : at + _PART]) for at in range(0, len(view), _PART))
    if isinstance(stdin, str | os.PathLike):
        try:
            return _until_end(open(stdin, "rb"), close=True)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadValue("stdin", stdin, f"cannot be read: {why}") from None
    return _until_end(stdin, close=False)


def _until_end(file: IO[bytes], *, close: bool) -> Iterator[bytes]:
    # What there is, not all of a part: a pipe's bytes are sent as they come.
    read = getattr(file, "read1", file.read)
    try:
        while data := read(_PART):
            yield data
    finally:
        if close:
            file.close()
