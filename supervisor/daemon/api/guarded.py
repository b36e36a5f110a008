"""A client's socket, read and closed so that no descriptor which it sends makes the loop wait.

Beside its bytes a client can send descriptors (SCM_RIGHTS, unix(7)) without being asked. A read
that does not take them has the kernel close them on its way out, in the thread that reads; closing
the socket does so with those that are still in its queue. They are the last ones of their files
when the sender closed its own, and such a close(2) may take as long as the sender likes: that of a
TCP connection which lingers (SO_LINGER, socket(7)) waits for a peer that reads nothing.

So nothing is read before it was looked at. MSG_PEEK takes nothing out of the queue and closes
nothing, and MSG_CTRUNC tells that descriptors lie there; a read of exactly as many bytes as were
seen without any meets none. A connection that brings them is broken off. What is then left is
closed in a thread of its own, which is woken out of the kernel as often as it waits there: a linger
that is interrupted is over. (A lock on a user's own file system may hold such a thread; it holds
nobody else.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from ..log import log

_SEEN = bytearray(256 << 10)  # as much as a transport reads at once; nobody reads what is in it
_FIRST_WAKING, _WAKINGS = 0.02, 10  # seconds, doubled each time: twenty seconds in all
# By default ignored, and so sent to anybody who has not asked for it without any harm.
_WAKE = signal.SIGURG


def prepare() -> None:
    """Let this process's threads be woken. Of the main thread only."""
    # Only a signal that has a handler ends a wait in the kernel.
    signal.signal(_WAKE, lambda _number, _frame: None)


class Guarded(socket.socket):
    """A connected Unix socket that does not block, of whose queue the loop closes nothing."""

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """It takes the descriptor over."""
        family, kind, protocol = connection.family, connection.type, connection.proto
        guarded = cls(family, kind, protocol, fileno=connection.detach())
        guarded.setblocking(False)
        # A byte out of band lies beside the queue, and is closed unseen, unless it is in line.
        guarded.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return guarded

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As socket.recv.

        Raises:
            ConnectionAbortedError: descriptors came.
        """
        if (seen := self._seen(size)) is None:
            raise ConnectionAbortedError("the client sent descriptors that nobody asked for")
        return super().recv(seen, flags) if seen else b""

    def _seen(self, size: int) -> int | None:
        """How many bytes there are that come alone; 0 at the end. None: there are descriptors."""
        room = memoryview(_SEEN)[:size]
        count, _, flags, _ = self.recvmsg_into([room], 0, socket.MSG_PEEK)
        return None if flags & socket.MSG_CTRUNC else count

    def close(self) -> None:
        """At once, for the loop and for the client."""
        if self.fileno() < 0:
            return
        with suppress(OSError):  # the other end is gone
            self.shutdown(socket.SHUT_RDWR)
        # Nothing comes any more, whoever else has a descriptor of this socket.
        if self._is_dry():
            super().close()
        else:
            Aside(partial(_close_connection, self.detach())).start_waking()

    def _is_dry(self) -> bool:
        try:
            while (seen := self._seen(len(_SEEN))) is not None:
                if not seen:
                    return True
                super().recv(seen)
        except OSError:
            return True  # it was no connection any more
        return False


class Aside(threading.Thread):
    """Does what may take long, and what nobody waits for."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="aside", daemon=True)
        self._work = work
        self._lock = threading.Lock()
        self._over = False

    def run(self) -> None:
        try:
            self._work()
        finally:
            with self._lock:
                self._over = True

    def start_waking(self) -> None:
        """Start, and be woken while it lasts. Called in the loop's thread."""
        try:
            self.start()
        except RuntimeError as error:  # no more threads: rather a descriptor less than a loop less
            log.error("descriptors stay open", error=error)
            return
        self._wake_later(_FIRST_WAKING, _WAKINGS)

    def _wake_later(self, seconds: float, times: int) -> None:
        asyncio.get_running_loop().call_later(seconds, self._wake, seconds, times)

    def _wake(self, seconds: float, times: int) -> None:
        with self._lock:  # it cannot end in between: to signal a thread that is gone is undefined
            if self._over or self.ident is None:
                return
            signal.pthread_kill(self.ident, _WAKE)
        if times > 1:
            self._wake_later(2 * seconds, times - 1)


def close_aside(descriptors: Sequence[int]) -> None:
    """Close a client's files. Their last close(2) may take long, and on a user's own file system
    (FUSE) every one."""
    Aside(partial(_close_all, descriptors)).start_waking()


def _close_connection(descriptor: int) -> None:
    # Read first: when somebody else has a descriptor too, it would be theirs that closes all.
    with suppress(OSError), socket.socket(fileno=descriptor) as connection:
        try:
            while connection.recv(len(_SEEN), socket.MSG_DONTWAIT):
                pass
        finally:
            connection.detach()
    _close(descriptor)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        _close(descriptor)


def _close(descriptor: int) -> None:
    with suppress(OSError):  # what is told here is of writes that nobody waits for
        os.close(descriptor)
