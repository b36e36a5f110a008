"""A daemon that only says what it was told to say, on a real Unix socket.

    with FakeDaemon(path) as daemon:
        daemon.answers["GET /ping"] = [json_answer(PING)]

Each request takes the next answer of its list; the last one stays. An answer may be cut short, as
by a daemon that is killed.
"""

# ruff: noqa: ANN401 - what travels is JSON, and both faces are tested as one

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import h11

JOB = "0123456789ab"


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, str]:
        _, _, query = self.target.partition("?")
        return dict(pair.split("=", 1) for pair in query.split("&") if pair)


@dataclass
class Answer:
    """What is sent back: the body as one chunk each."""

    status: int = 200
    chunks: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # the last chunk does not come, the connection is closed
    closes: bool = False  # the connection, after the whole answer and without a word
    before: Callable[[], object] | None = None
    # With a status of 101: what is done with the descriptors that come; the chunks are the answer.
    attached: Callable[[list[int]], None] | None = None


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, [json.dumps(value).encode()])


def error(code: str, message: str, status: int = 400, **more: str) -> Answer:
    return json_answer({"error": {"code": code, "message": message, **more}}, status)


def job_status(state: str = "running", **more: Any) -> dict[str, Any]:
    """A JobStatus."""
    return {
        "id": JOB,
        "name": None,
        "state": state,
        "user": "root",
        "argv": ["sleep", "60"],
        "attempt": 1,
        "queued_at": "2026-01-01T00:00:00.000000Z",
        "started_at": "2026-01-01T00:00:01.000000Z",
        "ended_at": None,
        "due_at": None,
        "reason": None,
        "request": {"argv": ["sleep", "60"]},
        "limits": {"pids.max": "4096"},
        "current": None,
        "output": {"stdout_bytes": 0, "stderr_bytes": 0},
        "attempts": [],
        "verdict": None,
        **more,
    }


def verdict(cause: str = "exited", status: int = 0, **more: Any) -> dict[str, Any]:
    """A verdict's object."""
    state = "completed" if (cause, status) == ("exited", 0) else "failed"
    return {
        "id": JOB,
        "name": None,
        "state": state,
        "cause": cause,
        "exit_code": status if cause == "exited" else None,
        "signal": None,
        "status": status,
        "message": "sleep exited with 0",
        "hint": None,
        "argv": ["sleep", "60"],
        "user": "root",
        "queued_at": None,
        "started_at": None,
        "ended_at": "2026-01-01T00:00:03.000000Z",
        "wall_seconds": 2.0,
        "limits": {},
        "usage": {"memory_peak": 4096},
        "events": {},
        "output": {"stdout_bytes": 0, "stderr_bytes": 0, "lost_bytes": 0, "errno": None},
        "setup_failure": None,
        **more,
    }


def ended(cause: str = "exited", status: int = 0, **more: Any) -> dict[str, Any]:
    """The JobStatus of a job that has ended so."""
    told = verdict(cause, status, **more)
    return job_status(told["state"], ended_at=told["ended_at"], verdict=told)


class FakeDaemon:
    """Serves until it is closed; `requests` is what was asked of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, list[Answer]] = {"GET /ping": [json_answer(PING)]}
        self.requests: list[Asked] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away, as a daemon that is killed: the socket's file stays, connections break."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def asked(self, method: str, path: str) -> list[Asked]:
        """The requests of this path, whatever their query."""
        return [
            each
            for each in self.requests
            if each.method == method and each.target.partition("?")[0] == path
        ]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, h11.RemoteProtocolError):
            http = h11.Connection(h11.SERVER)
            while (asked := _request(http, connection)) is not None:
                self.requests.append(asked)
                if not self._reply(http, connection, self._next(asked)):
                    break
                http.start_next_cycle()
        self._open.discard(connection)

    def _next(self, asked: Asked) -> Answer:
        key = f"{asked.method} {asked.target.partition('?')[0]}"
        waiting = self.answers.get(key)
        if not waiting:
            return error("no-such-path", f"no answer for {key}", 404)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def _reply(self, http: h11.Connection, connection: socket.socket, answer: Answer) -> bool:
        if answer.before is not None:
            answer.before()
        if answer.status == 101:
            return self._attach(http, connection, answer)
        headers = [("transfer-encoding", "chunked"), *answer.headers.items()]
        head = h11.Response(status_code=answer.status, headers=headers)
        connection.sendall(http.send(head) or b"")
        for chunk in answer.chunks:
            connection.sendall(http.send(h11.Data(data=chunk)) or b"")
        if answer.cut:
            return False
        connection.sendall(http.send(h11.EndOfMessage()) or b"")
        return not answer.closes

    def _attach(self, http: h11.Connection, connection: socket.socket, answer: Answer) -> bool:
        switching = h11.InformationalResponse(
            status_code=101, headers=[("connection", "upgrade"), ("upgrade", "jobsup-run")]
        )
        connection.sendall(http.send(switching) or b"")
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 8)
        if answer.attached is not None:
            answer.attached(descriptors)
        connection.sendall(b"".join(answer.chunks))
        return False


PING = {
    "time": "2026-01-01T00:00:00Z",
    "version": "0.1.0",
    "api": 1,
    "ready": True,
    "pid": 1,
    "uptime_seconds": 5.0,
}


def _request(http: h11.Connection, connection: socket.socket) -> Asked | None:
    head: h11.Request | None = None
    body = b""
    for event in _events(http, connection):
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Asked(head.method.decode(), head.target.decode(), headers, body)
    return None


def _events(http: h11.Connection, connection: socket.socket) -> Iterator[Any]:
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(65536))
        elif isinstance(event, h11.ConnectionClosed):
            return
        else:
            yield event
