"""The bytes of a long answer, put on a connection by hand.

aiohttp's transport serves what is small. Output goes past it: by sendfile(2) from the spool to the
socket, which no byte of it leaves the kernel for. A descriptor of our own for the same socket lets
the loop watch it for room, while the transport goes on reading it.

A client that takes nothing costs what its socket's buffer holds and nothing of ours: the next
piece is not even looked at before there is room. One that is gone is seen at once, as a hang-up,
also while there is nothing to send to it and also where it had said that it would send no more.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Self

PIECE = 1 << 20
_SMALL = 64 << 10  # what is read and sent at once instead
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class HangUps:
    """Tells who hung up. EPOLLHUP is what a Unix socket has when its other end is closed, and not
    when that merely sends no more; the loop's own selector cannot be asked for it alone."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._look)

    def close(self) -> None:
        """Tell nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back once when the other end is closed; it may be so already."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, 0)

    def forget(self, descriptor: int) -> None:
        """Of a descriptor that is still open: closing it would not end the watch, since it is not
        the socket's only one."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _look(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            if (callback := self._callbacks.get(descriptor)) is not None:
                self.forget(descriptor)
                callback()


class Line:
    """One connection during a long answer."""

    def __init__(self, transport: asyncio.Transport, hang_ups: HangUps) -> None:
        self._loop = asyncio.get_running_loop()
        self._hang_ups = hang_ups
        inner = transport.get_extra_info("socket")
        self._socket = socket.socket(fileno=os.dup(inner.fileno()))
        self._socket.setblocking(False)
        self._roomy = False
        self._by_sendfile = True
        try:
            hang_ups.watch(self._socket.fileno(), transport.abort)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._hang_ups.forget(self._socket.fileno())
        self._socket.close()

    def _make_room(self) -> None:
        """Let the kernel hold a piece or two for a client, so that it is the client's copying that
        takes the time, not our turns. Of a file the kernel holds what its cache holds anyway."""
        if self._roomy:
            return
        self._roomy = True
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, PIECE)
        except PermissionError:  # without CAP_NET_ADMIN as much as the host lets everybody have
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)

    async def _room(self) -> None:
        room = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _resolve, room)
        try:
            await room
        finally:
            self._loop.remove_writer(self._socket.fileno())

    async def send(self, data: bytes) -> None:
        """All of these bytes.

        Raises:
            ConnectionError: nobody takes them any more.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await self._room()

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """So many bytes of a file, which it has.

        Raises:
            ConnectionError: nobody takes them any more.
            EOFError: the file does not have them; what was promised cannot be kept.
        """
        self._make_room()
        end = offset + count
        while offset < end:
            try:
                sent = await self._some(file, offset, min(end - offset, PIECE))
            except BlockingIOError:
                await self._room()
                continue
            if sent == 0:
                raise EOFError(f"the output ends at {offset}")
            offset += sent

    async def _some(self, file: int, offset: int, count: int) -> int:
        if self._by_sendfile:
            try:
                return os.sendfile(self._socket.fileno(), file, offset, count)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                # A file system that cannot (some of FUSE's).
                self._by_sendfile = False
        data = os.pread(file, min(count, _SMALL), offset)
        await self.send(data)
        return len(data)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; of no data it would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
