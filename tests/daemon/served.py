"""A real `jobsup serve`, its process looked at from outside, and clients of whichever user.

What a client says goes over plain sockets, and nothing of jobsup's own client is used.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.api import Api
from tests.daemons import Daemon
from tests.machine import PATIENCE

HEADERS_THAT_DIFFER = re.compile(rb"\r\nDate: [^\r]*")


class Answer(NamedTuple):
    """What came back, to the end of the connection."""

    status: int
    head: bytes
    body: bytes

    @property
    def said(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.said["error"]["code"])


class Served(Daemon):
    """A daemon that is asked, and looked at."""

    @cached_property
    def api(self) -> Api:
        return Api(self.socket)

    def revive(self) -> None:
        """Start a daemon where a test that failed has left none."""
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.socket)) == 0:
                return
        if self.alive:
            self.wait_end()
        self.start()

    # ---- what it costs

    def resident(self) -> int:
        """KiB that are its own."""
        return private_kib(self.pid)

    def peak(self) -> int:
        """KiB, the most that were resident since `forget_peak`."""
        return _of_status(self.pid, "VmHWM")

    def forget_peak(self) -> int:
        """Returns what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return _of_status(self.pid, "VmRSS")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def until_few_descriptors(self, most: int) -> None:
        """Until it has so many: it sees a moment later that a client closed its connection."""
        deadline = time.monotonic() + PATIENCE
        while self.descriptors() > most:
            assert time.monotonic() < deadline, f"{self.descriptors()} descriptors, not {most}"

    def lowest_free(self, spare: int = 0) -> int:
        """With this RLIMIT_NOFILE it can open so many descriptors more."""
        used = {int(number) for number in os.listdir(f"/proc/{self.pid}/fd")}
        return next(itertools.islice((n for n in itertools.count() if n not in used), spare, None))

    def ticks(self) -> int:
        """Processor time so far, in 1/100 s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def metric(self, name: str) -> float:
        body = self.ask("GET", "/metrics").body.decode()
        (line,) = (line for line in body.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])

    # ---- who asks it

    def connect(self, uid: int = 0, groups: Sequence[int] = ()) -> socket.socket:
        """A connection of this user's."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        with acting_as(uid, groups):
            connection.connect(str(self.socket))
        return connection

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        uid: int = 0,
        groups: Sequence[int] = (),
    ) -> Answer:
        """One request, on a connection of its own."""
        with self.connect(uid, groups) as connection:
            connection.sendall(request(method, path, body, close=True))
            return answer_of(b"".join(received(connection)))

    def submit(self, argv: Sequence[str], *, uid: int = 0, **options: object) -> str:
        """Start a job; its id."""
        answer = self.ask("POST", "/jobs/run", {"argv": argv, "cwd": "/", **options}, uid=uid)
        assert answer.status == 201, answer
        return str(answer.said["id"])

    def shell(self, script: str, *, uid: int = 0, **options: object) -> str:
        return self.submit(["sh", "-c", script], uid=uid, **options)

    def output(self, job: str, stream: str = "stdout") -> bytes:
        """All of one stream, once the job has ended."""
        return b"".join(self.api.pieces(job, stream=stream, follow=True))


def request(method: str, path: str, body: object = None, *, close: bool = False) -> bytes:
    """Its bytes."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: jobsup\r\nContent-Length: {len(data)}\r\n"
    head += "Content-Type: application/json\r\n" if data else ""
    head += "Connection: close\r\n" if close else ""
    return head.encode() + b"\r\n" + data


def received(connection: socket.socket) -> Iterator[bytes]:
    """What comes, to the end."""
    while data := connection.recv(1 << 18):
        yield data


def answer_of(raw: bytes) -> Answer:
    """A whole answer from its bytes; without the time that is in its head."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head:
        body = b"".join(_unchunked(body))
    return Answer(int(head.split()[1]), HEADERS_THAT_DIFFER.sub(b"", head), body)


def one_answer(connection: socket.socket) -> Answer:
    """The next answer of a connection that stays open; it has a length."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        data = connection.recv(1 << 16)
        assert data, f"the connection ended: {raw!r}"
        raw += data
    head, _, body = raw.partition(b"\r\n\r\n")
    found = re.search(rb"\r\nContent-Length: (\d+)", head)
    assert found, head
    while len(body) < int(found[1]):
        body += connection.recv(1 << 16)
    return Answer(int(head.split()[1]), HEADERS_THAT_DIFFER.sub(b"", head), body)


def _unchunked(body: bytes) -> Iterator[bytes]:
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (length := int(size, 16)):
            return
        yield body[:length]
        body = body[length + 2 :]


@contextmanager
def acting_as(uid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """With these effective ids, which is what the peer of a connection is told; group = uid."""
    if uid == 0:
        yield
        return
    kept = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(kept)


def private_kib(pid: int) -> int:
    """Memory that only this process has."""
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return rollup["Private_Clean"] + rollup["Private_Dirty"]


def _of_status(pid: int, name: str) -> int:
    return _fields(Path(f"/proc/{pid}/status"))[name]


def _fields(path: Path) -> Mapping[str, int]:
    """Its lines of "name: number kB"."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0][:-1]: int(words[1]) for words in lines if words[-1] == "kB"}
