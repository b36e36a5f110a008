"""openapi.json is what the code says, and what the running server does: every path, method and
status that it promises is asked for, and every JSON answer is what its schema says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from jobsup.supervisor import errors
from jobsup.supervisor.daemon.api import openapi
from jobsup.supervisor.daemon.api.refusals import Refusal
from jobsup.supervisor.protocol import ERROR_STATUS
from tests.unit.pretended import Answer, Daemon, everything

DOCUMENT: dict[str, Any] = json.loads(openapi.DOCUMENT.read_text())
PROMISED = [
    (method, path, status)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for status in map(int, operation["responses"])
]
JOB = {"argv": ["x"]}
BODIES: dict[str, object] = {
    "/jobs/run": JOB,
    "/jobs/prune": {},
    "/jobs/{ref}/stop": {"signal": "TERM", "grace": "1s"},
    "/jobs/{ref}/signal": {"signal": 10},
    "/jobs/{ref}/set": {"mem": "1G"},
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, header_seconds=0.2, body_max=2000) as daemon:
        yield daemon


def valid(answer: Answer, method: str, path: str) -> None:
    """The answer is one that the document has."""
    response = DOCUMENT["paths"][path][method]["responses"][str(answer.status)]
    kind = answer.headers["Content-Type"].split(";")[0]
    assert kind in response["content"], (kind, answer.body)
    if kind == "application/json":
        schema = response["content"][kind]["schema"] | {"components": DOCUMENT["components"]}
        jsonschema.validate(answer.json, schema)


def test_the_document_is_what_the_code_says() -> None:
    assert openapi.DOCUMENT.read_text() == openapi.text(), (
        "python -m jobsup.supervisor.daemon.api.openapi"
    )


def test_it_is_served(daemon: Daemon) -> None:
    answer = daemon.get("/openapi.json")
    assert answer.json == DOCUMENT
    valid(answer, "get", "/openapi.json")


def test_every_reference_leads_somewhere() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator.check_schema(schema)
        list(jsonschema.Draft202012Validator(schema).iter_errors({}))


def test_every_code_can_be_met() -> None:
    told = json.dumps(DOCUMENT["paths"])
    unmet = {code for code in ERROR_STATUS if code not in told}
    assert unmet == {"no-such-path", "wrong-method"}  # of what the document does not have


def ask(daemon: Daemon, method: str, path: str, ref: str = "job") -> Answer:
    # A stream that nobody refuses has no end to wait for.
    target = "/events?job={ref}" if path == "/events" else path
    return daemon.call(method.upper(), target.replace("{ref}", ref), BODIES.get(path))


def prepared(daemon: Daemon, path: str) -> None:
    job = daemon.start(name="job")
    job.write("stdout", b"hello\n")
    if path.endswith("/resume"):
        daemon.call("PUT", "/jobs/job/pause")
    if path.endswith("/wait") or path == "/jobs/{ref}":
        daemon.end(job)


def succeed(daemon: Daemon, method: str, path: str) -> Answer:
    prepared(daemon, path)
    if path != "/events":
        return ask(daemon, method, path)
    with daemon.raw(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        daemon.until(lambda: daemon.server.house.limits.followers == 1)
        daemon.call("PUT", "/jobs/job/kill")
        told = client.recv(4000)
        while b"}\n" not in told:
            told += client.recv(4000)
    schema = DOCUMENT["paths"]["/events"]["get"]["responses"]["200"]["content"]
    line = json.loads(told.split(b"\r\n\r\n")[1].split(b"\r\n")[1])
    reference = schema["application/x-ndjson"]["schema"]
    jsonschema.validate(line, reference | {"components": DOCUMENT["components"]})
    return daemon.call("HEAD", "/events")


def fail_by(code: str) -> Callable[[Daemon, str, str], Answer]:
    """An answer that a refusal of the engine's leads to, whatever is asked of it."""

    def asked(daemon: Daemon, method: str, path: str) -> Answer:
        daemon.start(name="job")
        daemon.engine.refuse_everything = Refusal(code, "because")
        return ask(daemon, method, path)

    return asked


def nonsense(daemon: Daemon, method: str, path: str) -> Answer:
    return daemon.call(method.upper(), path.replace("{ref}", "job") + "?nonsense=1")


def too_much(daemon: Daemon, method: str, path: str) -> Answer:
    daemon.start(name="job")
    return daemon.call(method.upper(), path.replace("{ref}", "job"), b" " * 3000)


def unanswered(daemon: Daemon, method: str, path: str) -> Answer:
    daemon.start(name="job")
    with daemon.raw(f"{method.upper()} {path} HTTP/1.1\r\nHost:".encode()) as client:
        told = everything(client)
    assert told.startswith(b"HTTP/1.1 408 ")
    body = DOCUMENT["paths"][path][method]["responses"]["408"]["content"]["application/json"]
    error = json.loads(told.split(b"\r\n\r\n")[1])
    jsonschema.validate(error, body["schema"] | {"components": DOCUMENT["components"]})
    return daemon.get("/ping")


HOW: dict[int, Callable[[Daemon, str, str], Answer]] = {
    200: succeed,
    201: succeed,
    400: nonsense,
    403: fail_by("forbidden"),
    404: lambda daemon, method, path: ask(daemon, method, path, "absent"),
    408: unanswered,
    409: fail_by("wrong-state"),
    413: too_much,
    422: fail_by("path-refused"),
    429: fail_by("quota"),
    500: fail_by("internal"),
    503: fail_by("overloaded"),
    507: fail_by("storage-full"),
}


@pytest.mark.parametrize(("method", "path", "status"), PROMISED)
def test_every_promise_is_kept(daemon: Daemon, method: str, path: str, status: int) -> None:
    answer = HOW[status](daemon, method, path)
    if status == 408:
        return
    if answer.status == 200 and status >= 400:
        # It asks nothing of the engine that could be refused so; the table of refusals says it.
        assert path in ("/doctor", "/ping", "/control", "/openapi.json", "/metrics")
        return
    assert answer.status == status, answer.body
    if answer.body:
        valid(answer, method, path)


def test_codes_have_their_classes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, errors.JobsupError) and kind is not errors.JobsupError:
            code = errors.code_of(kind.__new__(kind))
            assert code in ERROR_STATUS


def test_messages_without_a_body_say_nothing(daemon: Daemon) -> None:
    daemon.start(name="job")
    assert daemon.call("PUT", "/jobs/job/stop").status == 200
    unknown = daemon.call("PUT", "/jobs/job/stop", {"sgnal": 1})
    assert (unknown.code, unknown.status) == ("bad-request", 400)
    assert msgspec.json.decode(daemon.call("POST", "/jobs/prune").body) == {"removed": []}
