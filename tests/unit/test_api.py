"""The API on its socket: jobs from their start to their end, and whose they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import LimitNotEnforceable, NotReady, PathRefused
from tests.unit.pretended import Daemon, everything

NOBODY = 65534


def as_nobody(call: Callable[[], object]) -> Any:  # noqa: ANN401
    """What it returns to a process of another user, by JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(call()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(told)


# ---- jobs


def test_a_job_from_start_to_end(daemon: Daemon) -> None:
    answer = daemon.call("POST", "/jobs/run", {"argv": ["echo", "hi"], "name": "first"})
    assert (answer.status, answer.json["state"]) == (201, "running")
    job = daemon.engine.all[answer.json["id"]]
    assert daemon.get("/jobs/first/status").json == daemon.get(f"/jobs/{job.record.id}").json
    assert [each["name"] for each in daemon.get("/jobs?state=running").json["jobs"]] == ["first"]
    assert daemon.call("PUT", "/jobs/first/pause").json["state"] == "paused"
    assert daemon.call("PUT", "/jobs/first/resume").json["state"] == "running"
    assert daemon.call("PUT", "/jobs/first/set", {"mem": "1G"}).json["limits"]
    assert daemon.call("PUT", "/jobs/first/signal", {"signal": "HUP"}).status == 200
    assert daemon.call("PUT", "/jobs/first/stop").json["state"] == "stopped"
    again = daemon.call("PUT", "/jobs/first/stop", {"signal": "INT", "grace": "1s"})
    assert (again.status, again.code) == (409, "wrong-state")
    assert daemon.call("DELETE", "/jobs/first").json == {"removed": [job.record.id]}
    assert daemon.get("/jobs/first").code == "not-found"


def test_arguments_that_are_no_text_arrive(daemon: Daemon) -> None:
    job = daemon.start("x", {"base64": "//4="})  # type: ignore[arg-type]
    assert job.record.argv == ["x", "\\xff\\xfe"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "bad-request", None),
        (b"{", "bad-request", None),
        (b"[]", "bad-request", None),
        (b"\xff", "bad-request", None),
        (b"[" * 100_000, "bad-request", None),
        (b"{}", "bad-value", "argv"),
        (b'{"argv": ["x"], "mem": "much"}', "bad-value", "mem"),
        (b'{"argv": ["x"], "mem": ' + b"9" * 5000 + b"}", "bad-request", None),
        (b'{"argv": ["x"], "nonsense": 1}', "bad-value", "nonsense"),
        (b'{"argv": ["x\\u0000"]}', "bad-value", "argv"),
    ],
)
def test_what_is_no_job_is_refused_by_name(
    daemon: Daemon, body: bytes, code: str, field: str | None
) -> None:
    answer = daemon.call("POST", "/jobs/run", body)
    assert (answer.status, answer.code) == (400, code)
    assert answer.json["error"].get("field") == field
    assert daemon.engine.all == {}


@pytest.mark.parametrize(
    ("refusal", "status", "told"),
    [
        (NotReady("not now"), 503, {"code": "not-ready", "message": "not now"}),
        (
            PathRefused("rw", b"/caf\xe9", "is not there"),
            422,
            {"code": "path-refused", "field": "rw", "value": "/caf\\udce9"},
        ),
        (
            LimitNotEnforceable("memory.max", "no controller", hint="mount it"),
            422,
            {"code": "limit-not-enforceable", "field": "memory.max", "hint": "mount it"},
        ),
        (OSError(24, "Too many open files"), 503, {"code": "overloaded"}),
        (OSError(28, "No space left"), 507, {"code": "storage-full"}),
    ],
)
def test_a_refusal_is_told_by_its_code(
    daemon: Daemon, refusal: Exception, status: int, told: dict[str, str]
) -> None:
    daemon.engine.refusal = refusal
    answer = daemon.call("POST", "/jobs/run", {"argv": ["x"]})
    assert answer.status == status
    assert answer.json["error"].items() >= told.items()


def test_a_mistake_of_ours_is_logged_and_not_shown(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.start(name="x")
    daemon.engine.fault = KeyError("secret")
    answer = daemon.get("/jobs/x")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret" not in answer.body
    assert "secret" in caplog.text
    daemon.engine.fault = None
    assert daemon.get("/jobs/x").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no-such-path"),
        ("GET", "/jobs/", 404, "no-such-path"),
        ("GET", "/jobs/x/nothing", 404, "no-such-path"),
        ("GET", "/jobs/..%2Fping", 404, "not-found"),
        ("GET", "/jobs/%FF%00", 404, "not-found"),
        ("GET", "/control/start", 405, "wrong-method"),
        ("POST", "/ping", 405, "wrong-method"),
        ("GET", "/ping?x=1", 400, "bad-request"),
        ("GET", "/jobs?limit=1&limit=2", 400, "bad-request"),
        ("GET", "/jobs?limit=no", 400, "bad-value"),
        ("GET", "/jobs?name=%FF", 400, "bad-request"),
        ("GET", "/jobs/x/out?stream=stdin", 400, "bad-value"),
        ("GET", "/jobs/x/out?since=2026-13-01T00:00", 400, "bad-value"),
    ],
)
def test_what_is_asked_wrongly(
    daemon: Daemon, method: str, path: str, status: int, code: str
) -> None:
    answer = daemon.call(method, path)
    assert (answer.status, answer.code) == (status, code)


def test_waiting_for_an_end(daemon: Daemon) -> None:
    job = daemon.start(name="w")
    assert daemon.get("/jobs/w/wait?timeout=0").json["state"] == "running"
    with daemon.raw(b"GET /jobs/w/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client:
        daemon.until(lambda: len(daemon.server.house._lasting) == 1)
        daemon.end(job)
        assert b'"state":"completed"' in everything(client)


def test_control_is_of_root(daemon: Daemon) -> None:
    assert daemon.get("/control").json == {"state": "ready"}
    assert daemon.call("PUT", "/control/stop").json == {"state": "unready"}
    assert daemon.call("POST", "/jobs/run", {"argv": ["x"]}).code == "not-ready"
    assert daemon.get("/ping").json["ready"] is False
    assert daemon.call("PUT", "/control/start").json == {"state": "ready"}
    daemon.start()
    assert daemon.call("PUT", "/control/terminate").json == {"state": "unready"}
    assert daemon.get("/jobs").json["jobs"][0]["state"] == "stopped"


def test_events_of_one_job_and_of_all(daemon: Daemon) -> None:
    first, second = daemon.start(), daemon.start()
    with (
        daemon.following("/events") as of_all,
        daemon.following(f"/events?job={second.record.id}") as of_one,
    ):
        daemon.end(first)
        daemon.end(second)
        told = [json.loads(of_all.readline()) for _ in range(2)]
        assert [event["id"] for event in told] == [first.record.id, second.record.id]
        assert json.loads(of_one.readline())["id"] == second.record.id
    daemon.until(lambda: daemon.server.house.limits.followers == 0)


def test_a_head_of_the_events_leaves_no_listener(daemon: Daemon) -> None:
    for _ in range(3):
        assert daemon.call("HEAD", "/events").status == 200
    daemon.until(lambda: daemon.server.house.limits.followers == 0)
    assert not daemon.do(lambda: daemon.engine.events._subscribers)


def test_metrics_are_numbers_with_names(daemon: Daemon) -> None:
    daemon.start()
    page = daemon.get("/metrics").body.decode()
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert {name: value for name, value in samples.items() if name.startswith("jobsup_jobs")} == {
        'jobsup_jobs{state="queued"}': "0",
        'jobsup_jobs{state="starting"}': "0",
        'jobsup_jobs{state="running"}': "1",
        'jobsup_jobs{state="paused"}': "0",
        'jobsup_jobs{state="stopping"}': "0",
    }
    assert float(samples["process_open_fds"]) > 5


# ---- owners


@pytest.mark.requires("root")
def test_another_owners_job_is_as_absent(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with Daemon(tmp_path) as daemon:
        daemon.path.parent.parent.chmod(0o711)
        job = daemon.start(name="roots")
        _reach(tmp_path)

        def asked() -> object:
            verbs = ("stop", "kill", "pause", "resume")
            absent, foreign = (
                [
                    [daemon.call("PUT", f"/jobs/{ref}/{verb}").code for verb in verbs],
                    daemon.call("PUT", f"/jobs/{ref}/set", {"mem": "1G"}).code,
                    daemon.call("PUT", f"/jobs/{ref}/signal", {"signal": 1}).code,
                    daemon.call("DELETE", f"/jobs/{ref}?force").code,
                    daemon.get(f"/events?job={ref}").code,
                    [
                        daemon.get(f"/jobs/{ref}{what}").json["error"]["code"]
                        for what in ("", "/status", "/out", "/wait", "/out?follow")
                    ],
                ]
                for ref in ("roots", "absent")
            )
            mine = daemon.call("POST", "/jobs/run", {"argv": ["x"]}).status
            listed = [each["user"] for each in daemon.get("/jobs").json["jobs"]]
            forbidden = [
                daemon.call("PUT", "/control/stop").code,
                daemon.get("/metrics").code,
            ]
            return [absent == foreign, mine, listed, forbidden]

        told = as_nobody(asked)
        assert told == [True, 201, [str(NOBODY)], ["forbidden", "forbidden"]]
        assert job.record.state is State.RUNNING
        assert len(daemon.get("/jobs").json["jobs"]) == 2


def _reach(path: Path) -> None:
    """Let everybody pass to it."""
    for parent in (path, *path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.mark.requires("root")
def test_an_owner_has_a_quota_of_followers_and_half_of_the_connections(brief: Daemon) -> None:
    _reach(brief.path.parent)

    def asked() -> object:
        brief.call("POST", "/jobs/run", {"argv": ["x"], "name": "mine"})
        held = [brief.following("/jobs/mine/out?follow") for _ in range(2)]
        entered = [each.__enter__() for each in held]
        refused = brief.get("/events")
        more = []
        status = 200
        while status == 200:
            connection = brief.connect()
            connection.request("GET", "/ping")
            response = connection.getresponse()
            response.read()
            status = response.status
            more.append(connection)
        return [refused.status, refused.code, status, len(more) + len(entered)]

    *told, connections = as_nobody(asked)
    assert told == [429, "quota", 503]
    assert 8 <= connections <= 11  # one that was closed just before may still be counted


def test_whoever_comes_when_it_is_full_is_told_so(brief: Daemon) -> None:
    held = [brief.connect() for _ in range(20)]
    for connection in held:
        connection.request("GET", "/ping")
        assert connection.getresponse().read()
    refused = brief.get("/ping")
    assert (refused.status, refused.code) == (503, "overloaded")
    # …also who takes their time to ask, or never does.
    with brief.raw() as late, brief.raw() as silent:
        brief.until(lambda: brief.server.house.limits._refused.total() == 2)
        late.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert everything(late).startswith(b"HTTP/1.1 503 ")
        assert everything(silent).startswith(b"HTTP/1.1 503 ")
    brief.until(lambda: not brief.server.house.limits._refused)
    held[0].close()
    brief.until(lambda: brief.server.house.limits.connections < 20)
    assert brief.get("/ping").status == 200
    for connection in held:
        connection.close()
