"""Whatever comes: never a 500, never a hang, and the daemon is there afterwards. Requests are made
from openapi.json, with what its schemas allow and with what they do not; and raw bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsup.supervisor.daemon.api.openapi import DOCUMENT
from tests.unit.pretended import Daemon, everything

PATHS: dict[str, Any] = json.loads(DOCUMENT.read_text())["paths"]
OPERATIONS = [(path, method) for path, methods in PATHS.items() for method in methods]
JOB: dict[str, Any] = json.loads(DOCUMENT.read_text())["components"]["schemas"]["Job"]
ENDLESS = {"/events", "/jobs/{ref}/wait", "/control/terminate"}
# Each job of a fuzzed request stays: the daemon is of the whole module, and finds more every time.
EXAMPLES = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("fuzz"), header_seconds=1.0, body_max=1 << 16) as daemon:
        for name in ("one", "two", "two"):
            job = daemon.start(name=name)
            job.write("stdout", b"out\n" * 100)
            job.write("stderr", b"err\n" * 100)
        yield daemon


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["1G", "10s", "no", "always", "TERM", "..", "/", "\u202e", "a\0b", "root"])
    | st.just({"base64": "//4="})
    | st.just({"base64": "*"}),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
jobs = st.fixed_dictionaries(
    {"argv": st.lists(st.text(max_size=20), min_size=1) | values},
    optional=dict.fromkeys((name for name in JOB["properties"] if name != "argv"), values),
)
bodies = jobs | values | st.dictionaries(st.sampled_from(sorted(JOB["properties"])), values)
queries = st.lists(
    st.tuples(
        st.sampled_from(
            ["stream", "frames", "offset", "tail", "since", "attempt", "timeout", "force", "state"]
            + ["name", "limit", "after", "job", "x"]
        ),
        st.sampled_from(["", "0", "1", "-1", "2", "stdout", "1s", "2026-01-01T00:00", "9" * 30])
        | st.text(max_size=12),
    ),
    max_size=3,
)
references = st.sampled_from(["one", "two", "0000job", "0", "absent"]) | st.text(
    min_size=1, max_size=80
)


def plausible(status: int, body: bytes) -> None:
    assert status < 500 or status in (503, 507), body
    assert HTTPStatus(status)
    if status >= 400:
        assert json.loads(body)["error"]["code"]


@EXAMPLES
@given(
    operation=st.sampled_from(OPERATIONS),
    ref=references,
    query=queries,
    body=bodies | st.none(),
)
def test_requests_made_from_the_document(
    daemon: Daemon, operation: tuple[str, str], ref: str, query: list[tuple[str, str]], body: object
) -> None:
    path, method = operation
    target = path.replace("{ref}", quote(ref, safe="", errors="surrogatepass"))
    if path in ENDLESS:
        query = [*(pair for pair in query if pair[0] != "timeout"), ("timeout", "0")]
    target += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query)
    raw = None if body is None else json.dumps(body).encode()
    answer = daemon.call(method.upper(), target, raw)
    plausible(answer.status, answer.body)


@EXAMPLES
@given(body=st.binary(max_size=300), path=st.sampled_from([p for p, m in OPERATIONS if m != "get"]))
def test_bodies_that_are_no_json(daemon: Daemon, body: bytes, path: str) -> None:
    if path == "/control/terminate":
        return
    method = next(iter(PATHS[path])).upper()
    answer = daemon.call("PUT" if method == "GET" else method, path.replace("{ref}", "one"), body)
    plausible(answer.status, answer.body)
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = daemon.call("POST", "/jobs/run", b"--b\r\n" + body, **form)
    plausible(answer.status, answer.body)


LINES = [
    b"GET /ping HTTP/1.1\r\n",
    b"POST /jobs/run HTTP/1.1\r\n",
    b"PUT /jobs/one/stop HTTP/1.0\r\n",
    b"Host: x\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: jobsup-run\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: multipart/form-data\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b'{"argv": ["x"]}',
    b"\x00",
]


@EXAMPLES
@given(
    parts=st.lists(st.sampled_from(LINES) | st.binary(max_size=40), max_size=12),
    closes=st.booleans(),
)
def test_raw_bytes(daemon: Daemon, parts: list[bytes], closes: bool) -> None:
    """The client says no more, and so must get its answers and the end; or it vanishes."""
    with daemon.raw() as client:
        try:
            client.sendall(b"".join(parts))
            if closes:
                return
            client.shutdown(1)
            told = everything(client)
        except ConnectionError:
            return
    assert b" 500 " not in told[:15]
    assert b'"internal"' not in told


def test_the_daemon_is_there_afterwards(daemon: Daemon) -> None:
    assert daemon.get("/ping").status == 200
    daemon.until(lambda: daemon.server.house.limits.connections == 0)
    assert daemon.unexpected == []
