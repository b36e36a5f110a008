"""A client of the daemon that costs next to nothing itself: one connection, bytes made beforehand.

As a program it is one load of several, asked on stdin as the other contestants are:

    python -m bench.daemon_client SOCKET jobs      so many jobs: start → finished, µs each
    python -m bench.daemon_client SOCKET starts    so many jobs: start → acknowledged, µs each
    python -m bench.daemon_client SOCKET follow URL COUNT    bytes that COUNT followers read
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from typing import Any

JOB = {"argv": ["true"], "cwd": "/", "mem": "64M"}
_CHUNK = 1 << 20


class Connection:
    """One keep-alive connection; an answer from 400 on is an error."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._rest = b""

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """The answer's JSON."""
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: jobsup\r\nContent-Length: {len(sent)}\r\n"
        self._socket.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + sent)
        status, answer = self._answer()
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer) if answer else None

    def text(self, path: str) -> str:
        """The body of what is no JSON."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: jobsup\r\n\r\n".encode())
        return self._answer()[1].decode()

    def _answer(self) -> tuple[int, bytes]:
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:])
        size = end + 4 + int(fields.get("content-length", "0"))
        while len(data) < size:
            data += self._more()
        self._rest = data[size:]
        return int(head[0].split(" ")[1]), data[end + 4 : size]

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise RuntimeError("the daemon has closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def run_jobs(path: str, *, wait: bool) -> None:
    """For each number on stdin: so many jobs one after the other; for each the µs until it was
    acknowledged, which is after its launch, and until it had ended, if that is waited for."""
    connection = Connection(path)
    for line in sys.stdin:
        for _ in range(int(line)):
            begun = time.perf_counter_ns()
            job = connection.call("POST", "/jobs/run", JOB)["id"]
            acknowledged = time.perf_counter_ns()
            if wait:
                connection.call("GET", f"/jobs/{job}/wait")
            ended = time.perf_counter_ns()
            print((acknowledged - begun) // 1000, (ended - begun) // 1000)
        sys.stdout.flush()


def follow(path: str, url: str, count: int) -> None:
    """Read one output by so many connections at once; the bytes, and the µs it took."""
    selector = selectors.DefaultSelector()
    buffer = bytearray(_CHUNK)
    begun = time.perf_counter_ns()
    for _ in range(count):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        head = f"GET {url} HTTP/1.1\r\nHost: jobsup\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        selector.register(connection, selectors.EVENT_READ)
    total = 0
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            got = key.fileobj.recv_into(buffer)
            total += got
            if not got:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    print(total, (time.perf_counter_ns() - begun) // 1000, flush=True)


def main() -> None:
    path, mode, *rest = sys.argv[1:]
    if mode in ("jobs", "starts"):
        run_jobs(path, wait=mode == "jobs")
    else:
        follow(path, rest[0], int(rest[1]))
    os._exit(0)  # what the interpreter tears down is no part of it


if __name__ == "__main__":
    main()
