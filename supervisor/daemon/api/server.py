"""The API on its Unix socket: accept, find the route, call its handler, answer.

    listener ──▶ Connection (aiohttp's HTTP) ──▶ Server.handle ──▶ routes ──▶ engine
    (accepts)    (head's time, peer, limits)     (errors' one shape)

Every error of jobsup's own has a code and is told to the client; anything else is a mistake of
ours: the log has it, the client learns that there was one.

When the process has no descriptor left, one that was kept for this is given up so that the caller
is told and sent away; a connection that nobody accepts would keep the loop awake.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from ...errors import Forbidden, JobsupError, code_of
from ..log import log
from ..settings import Settings
from . import routes
from .answers import error_answer, raw_answer
from .call import Call, House
from .connection import Connection, Connections
from .guarded import Guarded, close_aside, prepare
from .limits import Limits
from .queries import parse_query
from .refusals import internal, of_system
from .seam import Supervised

_BACKLOG = 4096
_AT_ONCE = 100  # connections accepted in one turn of the loop
_REST = 1.0  # seconds until it is tried again to accept
_PATIENCE = 5.0  # seconds for what is being answered when the daemon is to end
_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Server:
    """Serves one engine until it is closed."""

    def __init__(self, engine: Supervised, settings: Settings) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limits = Limits(settings.connections, settings.owner_followers, descriptors)
        self.house = House(engine, settings, limits)
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            prepare()
        self._connections = Connections(self.handle, self.house)
        self._listener: socket.socket | None = None
        self._reserve = -1
        self._take_reserve()
        self._none_left = False  # descriptors; as was told already
        self._resting: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- accepting

    def listen(self, path: Path) -> None:
        """Make the socket, for everybody: who may do what is decided by who it is.

        The caller has the lock of the state, so a socket that is there is a dead daemon's, unless
        two were told to use one path: then nobody takes it away from who answers there.

        Raises:
            OSError: it cannot be made; EADDRINUSE: somebody answers there.
        """
        _remove_dead(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with _short(path) as short:
                listener.bind(short)
            path.chmod(0o666)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        self._made = path, path.stat().st_ino
        self._watch(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NONE_LEFT:
                    raise
                self._send_away(listener, error)
                return
            self._none_left = False
            task = self._loop.create_task(self._serve(Guarded.of(connection)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._connections, connection)

    def _send_away(self, listener: socket.socket, error: OSError) -> None:
        """Nothing is left to accept it with but the reserve."""
        if not self._none_left:
            self._none_left = True
            log.warning("no descriptors", error=error)
        self._give_up_reserve()
        try:
            connection, _address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            pass  # it is gone
        except OSError:
            # Somebody else took it in between, or the whole host has none. A listener that is
            # readable and not accepted from would keep the loop awake.
            self._loop.remove_reader(listener.fileno())
            self._resting = self._loop.call_later(_REST, self._watch, listener)
        else:
            with Guarded.of(connection) as guarded, suppress(OSError):
                guarded.send(raw_answer(of_system(error) or internal()))
        self._take_reserve()

    def _watch(self, listener: socket.socket) -> None:
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _take_reserve(self) -> None:
        with suppress(OSError):
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def _give_up_reserve(self) -> None:
        reserve, self._reserve = self._reserve, -1
        if reserve >= 0:
            os.close(reserve)

    def _unlink(self) -> None:
        path, inode = self._made
        with suppress(FileNotFoundError):
            if path.stat().st_ino == inode:
                path.unlink()

    async def close(self) -> None:
        """Accept no more; end the answers that last, so that their clients see that they are not
        whole; let what has begun end, if it does so in time."""
        deadline = self._loop.time() + _PATIENCE
        if self._resting is not None:
            self._resting.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._unlink()
            # With it go those who were not accepted, and what they have sent.
            close_aside([self._listener.detach()])
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.house.cut_off()
        self._connections.pre_shutdown()
        await self._connections.shutdown(_PATIENCE)
        await self.house.close(deadline)
        self._give_up_reserve()

    # ---- answering

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """The answer to a request, whatever happens."""
        answer = await self._answer(request)
        if not request.content.is_eof():
            answer.force_close()  # what comes next is the rest of its body, and no request
        self.house.answers[answer.status] += 1
        log.debug("answered", method=request.method, path=request.path, status=answer.status)
        return answer

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        try:
            return await self._routed(request)
        except JobsupError as error:
            if code_of(error) == "internal":
                return self._mistaken(request, error)
            return self._refused(request, error)
        except ConnectionError:
            raise
        except OSError as error:
            if (known := of_system(error)) is None:
                return self._mistaken(request, error)
            log.warning("a request was refused", path=request.path, error=error)
            return self._refused(request, known)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            return self._mistaken(request, error)

    async def _routed(self, request: BaseRequest) -> StreamResponse:
        connection = cast(Connection, request.protocol)
        route, ref = routes.find(request.method, request.rel_url.raw_path)
        if route.root_only and not connection.peer.is_root:
            raise Forbidden("only root may do this")
        query = parse_query(request.rel_url.raw_query_string, route.query)
        return await route.handler(Call(self.house, request, connection, ref, query))

    def _mistaken(self, request: BaseRequest, error: Exception) -> StreamResponse:
        log.error("a request failed", method=request.method, path=request.path, error=error)
        return self._refused(request, internal())

    def _refused(self, request: BaseRequest, error: JobsupError) -> StreamResponse:
        if request.writer.output_size > 0:
            # A part of another answer is on its way: it is to be seen that it breaks off.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer cannot be completed")
        answer = error_answer(error)
        # What follows is of another protocol, and no request.
        if request.method == "CONNECT" or "Upgrade" in request.headers:
            answer.force_close()
        return answer


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path, short enough for a socket (108 bytes, unix(7)) wherever it lies."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _remove_dead(path: Path) -> None:
    with _short(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(short)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), os.fspath(path))
