"""`Upgrade: jobsup-run`: a job in the foreground, whose streams are its caller's own.

    client                                        daemon
      POST /jobs/run, Upgrade: jobsup-run  ──▶
                                           ◀──    101
      one byte, with the descriptors       ──▶
      (stdin, stdout, stderr, lifeline)             launches
                                           ◀──    one line: Started, or ErrorBody
                                                  closes

Bytes of output then go from the init to the caller's files and pass nobody else; to pipes, if the
caller is not root. The client's end
of the lifeline, a pipe, closes with the client, and ends the job, whether there is a daemon then
or not. What is wrong with the request itself is answered before the 101, as to any request.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp.web_response import StreamResponse

from ...errors import BadRequest, JobsupError
from ...protocol import UPGRADE
from ...request import Request
from ..launcher import Attached
from ..log import log
from ..peer import Peer
from . import answers
from .call import Call, too_slow
from .guarded import close_aside
from .refusals import body_of, internal, of_system

_SWITCHING = (
    f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n"
).encode()
_EXPECTED = 4
_INT = array.array("i").itemsize


class Silent(StreamResponse):
    """Stands for an answer that was given by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: object) -> None:
        """There is nothing to send."""

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing to end."""


def wants(call: Call) -> bool:
    """Whether the request asks for it."""
    return call.request.headers.get("Upgrade", "").lower() == UPGRADE


async def attached(call: Call, request: Request) -> StreamResponse:
    """Launch it with the descriptors that the client sends."""
    transport = call.request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    # Bytes that the transport reads are read without the descriptors that came with them.
    transport.pause_reading()
    with _socket_of(transport) as connection:
        transport.write(_SWITCHING)
        line = await _outcome(call, request, connection)
    transport.write(line)
    return Silent()


@contextmanager
def _socket_of(transport: asyncio.Transport) -> Iterator[socket.socket]:
    inner = transport.get_extra_info("socket")
    with socket.socket(fileno=os.dup(inner.fileno())) as connection:
        connection.setblocking(False)
        yield connection


async def _outcome(call: Call, request: Request, connection: socket.socket) -> bytes:
    """The line that tells how it went."""
    try:
        streams = await _received(call, connection)
        # The engine closes them, whatever comes of it.
        started = await call.house.see_through(
            call.engine.submit(request, call.peer, attached=streams)
        )
    except JobsupError as error:
        return answers.encoded(body_of(error)[1])
    except ConnectionError:
        raise
    except OSError as error:
        return answers.encoded(body_of(of_system(error) or _told(error))[1])
    except Exception as error:  # noqa: BLE001 - the client is told that something went wrong
        return answers.encoded(body_of(_told(error))[1])
    return answers.encoded(started)


def _told(error: Exception) -> JobsupError:
    log.error("a request failed", error=error)
    return internal()


async def _received(call: Call, connection: socket.socket) -> Attached:
    seconds = call.house.header_seconds
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            while True:
                readable = loop.create_future()
                loop.add_reader(connection.fileno(), _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(connection.fileno())
                if (streams := _receive(connection, call.peer)) is not None:
                    return streams
    except TimeoutError:
        raise too_slow(seconds) from None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _receive(connection: socket.socket, peer: Peer) -> Attached | None:
    """None: nothing is there after all."""
    # Looked at first (see guarded.py): what is too much, or refused, stays in the queue, which is
    # closed where nobody waits. Not socket.recv_fds: it forgets the flags that it is given
    # (CPython 3.11).
    room = socket.CMSG_LEN(_EXPECTED * _INT)
    looking = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
    try:
        data, ancillary, flags, _ = connection.recvmsg(1, room, looking)
    except BlockingIOError:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) // _INT * _INT])
    try:
        if not data:
            raise ConnectionResetError("the client is gone")
        if flags & socket.MSG_CTRUNC or len(descriptors) != _EXPECTED:
            raise BadRequest("four descriptors are to come", hint="stdin, stdout, stderr, lifeline")
        _check(descriptors, peer)
    except BaseException:
        if descriptors:
            close_aside(descriptors)
        raise
    connection.recv(1)  # nor are its descriptors the last ones now
    stdin, stdout, stderr, lifeline = descriptors
    if peer.is_root and _is_null(os.fstat(stdin)):
        os.close(stdin)
        return Attached(None, stdout, stderr, lifeline)
    return Attached(stdin, stdout, stderr, lifeline)


def _check(descriptors: Sequence[int], peer: Peer) -> None:
    """Refuse what root must not be made to read, write or wait for.

    The init writes with root's rights, and some files judge at the write (proc(5), a socket's
    SO_PASSCRED): who is not root hands over pipes. Nothing is asked of what is none: on a file
    system of a user's own (FUSE), even fstat(2) may never return.
    """
    if not peer.is_root:
        if not all(map(_is_pipe, descriptors)):
            raise BadRequest("all four descriptors are to be pipes", hint="copy them yourself")
        return
    stdin, lifeline = os.fstat(descriptors[0]), os.fstat(descriptors[3])
    # It is the job's own descriptor 0: a directory there would lead out to the host.
    if not (stat.S_ISFIFO(stdin.st_mode) or _is_null(stdin)):
        raise BadRequest("stdin is to be the reading end of a pipe, or /dev/null")
    if not stat.S_ISFIFO(lifeline.st_mode):
        raise BadRequest("the lifeline is to be the reading end of a pipe")


def _is_pipe(descriptor: int) -> bool:
    """Whether it is a pipe that no file system knows: the name of a file begins with a slash."""
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:[")


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
