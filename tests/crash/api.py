"""The daemon's API as a stranger would use it: HTTP over a Unix socket, the standard library, and
nothing of jobsup's own. Whatever a daemon that dies does to a connection is `Gone`.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.machine import PATIENCE

UNFINISHED = ("queued", "starting", "running", "paused", "stopping")


class Gone(Exception):
    """No answer, or half of one: the daemon is not there, or died. Whether it did what it was asked
    for is not known."""


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("jobsup", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


class Api:
    """Each call is a connection of its own; any number of threads may call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _answer(
        self, method: str, path: str, body: object = None, **query: object
    ) -> Iterator[http.client.HTTPResponse]:
        said = {name: value for name, value in query.items() if value is not None}
        url = path + ("?" + urlencode(said) if said else "")
        kind, data = "application/json", body
        if isinstance(body, bytes):
            kind = "multipart/form-data; boundary=crash"
        elif body is not None:
            data = json.dumps(body)
        headers = {} if body is None else {"Content-Type": kind}
        connection = _Connection(self._path)
        try:
            connection.request(method, url, data, headers)  # type: ignore[arg-type]
            with connection.getresponse() as answer:
                yield answer
        except TimeoutError:
            raise AssertionError(f"{method} {url}: no answer in {PATIENCE:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"{method} {url}: {error!r}") from error
        finally:
            connection.close()

    def call(self, method: str, path: str, body: object = None, **query: object) -> Any:  # noqa: ANN401 - JSON
        """The answer's JSON; None where it has no body."""
        with self._answer(method, path, body, **query) as answer:
            data = answer.read()
        said: Any = json.loads(data) if data else None
        if answer.status >= 400:
            raise Refused(answer.status, said["error"]["code"], said["error"]["message"])
        return said

    def submit(self, job: dict[str, Any]) -> str:
        """Its id. Whoever has that has been promised the job."""
        return str(self.call("POST", "/jobs/run", job)["id"])

    def submit_with_input(self, job: dict[str, Any], data: bytes) -> str:
        """A job with something to read."""
        line = b"--crash\r\nContent-Disposition: form-data; name="
        kind = b"\r\nContent-Type: application/json"
        parts = (b'"job"' + kind, json.dumps(job).encode()), (b'"stdin"', data)
        body = b"".join(line + head + b"\r\n\r\n" + part + b"\r\n" for head, part in parts)
        with self._answer("POST", "/jobs/run", body + b"--crash--\r\n") as answer:
            return str(json.loads(answer.read())["id"])

    @contextmanager
    def half_uploaded(self, size: int) -> Iterator[None]:
        """A client that has sent so many bytes of a job's input, and goes on sending no more."""
        head = (
            "POST /jobs/run HTTP/1.1\r\nHost: jobsup\r\nContent-Type: multipart/form-data; "
            f"boundary=crash\r\nContent-Length: {4 * size}\r\n\r\n"
            '--crash\r\nContent-Disposition: form-data; name="job"\r\n'
            'Content-Type: application/json\r\n\r\n{"argv": ["true"]}\r\n'
            '--crash\r\nContent-Disposition: form-data; name="stdin"\r\n\r\n'
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._path))
            with suppress(BrokenPipeError):  # it may die of the first bytes
                client.sendall(head.encode() + bytes(size))
            yield

    def status(self, job: str) -> Any:  # noqa: ANN401 - JSON
        return self.call("GET", f"/jobs/{job}/status")

    def wait(self, job: str) -> Any:  # noqa: ANN401 - JSON
        """Its status once it has ended."""
        status = self.call("GET", f"/jobs/{job}/wait", timeout=PATIENCE / 2)
        if status["state"] in UNFINISHED:
            lines = [(line["id"], line["name"], line["state"]) for line in self.unfinished()]
            raise AssertionError(f"{job} is {status}; of all there are {lines}")
        return status

    def ask(self, job: str, verb: str) -> None:
        """stop, kill, pause or resume."""
        self.call("PUT", f"/jobs/{job}/{verb}", {} if verb == "stop" else None)

    def stop(self, job: str) -> None:
        self.ask(job, "stop")

    def all(self, state: str | None = None, name: str | None = None) -> list[Any]:
        """One line of each job, or of each that is in this state or of this name, newest first."""
        found: list[Any] = []
        after = None
        while True:
            page = self.call("GET", "/jobs", after=after, state=state, name=name)
            found += page["jobs"]
            if (after := page["next"]) is None:
                return found

    def unfinished(self) -> list[Any]:
        """Those that have not ended."""
        return [line for state in UNFINISHED for line in self.all(state)]

    def pieces(
        self,
        job: str,
        *,
        offset: int = 0,
        follow: bool = False,
        stream: str,
        attempt: int | None = None,
    ) -> Iterator[bytes]:
        """What a job wrote to one stream, as it comes."""
        with self._answer(
            "GET", f"/jobs/{job}/out", stream=stream, offset=offset or None,
            follow=1 if follow else None, attempt=attempt,
        ) as answer:  # fmt: skip
            if answer.status != 200:
                raise AssertionError(f"output of {job}: {answer.status} {answer.read()!r}")
            while data := answer.read1(1 << 18):
                yield data
