"""The client against a daemon that only says what it was told to say, blocking and asyncio."""

# ruff: noqa: ANN401 - what travels is JSON, and both faces are tested as one

from __future__ import annotations

import asyncio
import errno
import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobsup
from jobsup.supervisor.client import aio, blocking, calls
from jobsup.supervisor.client.chunks import Chunks, NotChunks
from jobsup.supervisor.client.errors import (
    ApiError,
    Disconnected,
    NoDaemon,
    StillRunning,
    error_of,
)
from jobsup.supervisor.client.flow import request
from jobsup.supervisor.client.follow import Frame, Unframing
from jobsup.supervisor.errors import (
    Ambiguous,
    BadValue,
    Forbidden,
    LaunchFailed,
    LimitNotEnforceable,
    NoSuchJob,
    NotReady,
    PathRefused,
    QuotaExceeded,
    StorageFull,
    WrongState,
)
from jobsup.supervisor.protocol import ERROR_STATUS, ErrorInfo
from tests.fake_daemon import (
    JOB,
    Answer,
    FakeDaemon,
    ended,
    error,
    job_status,
    json_answer,
    verdict,
)

STATUS, OUT, WAIT = f"/jobs/{JOB}/status", f"/jobs/{JOB}/out", f"/jobs/{JOB}/wait"


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "jobsup.sock"


@pytest.fixture
def daemon(socket: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(socket) as fake:
        yield fake


class Client:
    """One of the two faces; iterators come back as lists."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def do(self, action: Callable[[Any], Any]) -> Any:
        with blocking.connect(self.socket) as supervisor:
            return action(supervisor)

    def of_job(self, action: Callable[[Any], Any]) -> Any:
        return self.do(lambda supervisor: self.listed(action(supervisor.job(JOB))))

    def listed(self, result: Any) -> Any:
        return list(result) if isinstance(result, Iterator) else result


class AsyncClient(Client):
    def do(self, action: Callable[[Any], Any]) -> Any:
        async def inside() -> Any:
            async with aio.connect(self.socket) as supervisor:
                return await self._result(action(supervisor))

        return asyncio.run(inside())

    def of_job(self, action: Callable[[Any], Any]) -> Any:
        async def inside() -> Any:
            async with aio.connect(self.socket) as supervisor:
                return await self._result(action(await supervisor.job(JOB)))

        return asyncio.run(inside())

    async def _result(self, result: Any) -> Any:
        if hasattr(result, "__aiter__"):
            return [item async for item in result]
        return await result if hasattr(result, "__await__") else result


@pytest.fixture(params=[Client, AsyncClient])
def client(request: pytest.FixtureRequest, daemon: FakeDaemon) -> Client:
    daemon.answers[f"GET {STATUS}"] = [json_answer(job_status())]
    made: Client = request.param(daemon.path)
    return made


# ---- connections


def test_without_a_socket_the_error_names_it_and_what_to_do(socket: Path) -> None:
    with pytest.raises(NoDaemon) as caught:
        blocking.connect(socket)
    assert str(socket) in caught.value.message
    assert "jobsup serve" in str(caught.value.hint)
    with pytest.raises(NoDaemon):
        AsyncClient(socket).do(lambda supervisor: supervisor.ping())


def test_a_socket_that_nobody_listens_on_is_no_daemon(daemon: FakeDaemon) -> None:
    daemon.close()
    with pytest.raises(NoDaemon, match="no daemon answers"):
        blocking.connect(daemon.path)


def test_a_path_that_is_too_long_is_told() -> None:
    with pytest.raises(NoDaemon) as caught:
        blocking.connect("/" + "x" * 200)
    assert "too long" in caught.value.message


def test_a_daemon_that_comes_up_is_waited_for(socket: Path) -> None:
    with pytest.raises(NoDaemon):
        blocking.connect(socket, wait=0.05)
    come: list[FakeDaemon] = []
    timer = threading.Timer(0.2, lambda: come.append(FakeDaemon(socket)))
    timer.start()
    with blocking.connect(socket, wait=60) as supervisor:
        assert supervisor.ping().ready
    timer.join()
    come[0].close()


def test_the_socket_is_found_by_the_environment(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBSUP_SOCKET", str(daemon.path))
    with jobsup.connect() as supervisor:
        assert supervisor.ping().version == "0.1.0"


def test_one_connection_serves_many_calls(client: Client, daemon: FakeDaemon) -> None:
    client.of_job(lambda job: job.status())
    assert len(daemon.requests) == 3
    assert daemon.connections == 1


def test_a_connection_that_the_daemon_closed_is_not_used(daemon: FakeDaemon, socket: Path) -> None:
    with blocking.connect(socket) as supervisor:
        daemon.close()
        socket.unlink()
        with FakeDaemon(socket) as another:
            assert supervisor.ping().ready
            assert another.connections == 1


def test_a_connection_that_closes_while_it_is_used_is_replaced(
    client: Client, daemon: FakeDaemon
) -> None:
    """For what may be asked twice; whatever it is that is asked."""
    daemon.answers["GET /ping"] = [Answer(chunks=json_answer({**_ping(), "pid": 1}).chunks)]
    daemon.answers[f"GET {STATUS}"] = [Answer(closes=True, chunks=json_answer(job_status()).chunks)]
    daemon.answers[f"GET {OUT}"] = [Answer(closes=True, chunks=[b"all of it"])]
    for _ in range(20):  # the closing is seen before, or while the next request is sent
        found = client.of_job(lambda job: job.output("stdout", follow=False))
        assert b"".join(found) == b"all of it"


def test_threads_share_a_client(daemon: FakeDaemon, socket: Path) -> None:
    daemon.answers["GET /ping"] = [json_answer({**_ping(), "pid": number}) for number in range(400)]
    seen: list[int] = []
    with blocking.connect(socket) as supervisor:
        threads = [
            threading.Thread(target=lambda: seen.extend([supervisor.ping().pid for _ in range(20)]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == list(range(1, 161))


def _ping() -> dict[str, Any]:
    return {"time": "", "version": "1", "api": 1, "ready": True, "uptime_seconds": 0.0}


def test_what_a_newer_daemon_adds_is_ignored(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["GET /ping"] = [json_answer({**_ping(), "pid": 7, "mood": "good"})]
    assert client.do(lambda supervisor: supervisor.ping()).pid == 7


def test_what_is_not_understood_is_an_error_of_ours(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {STATUS}"] = [Answer(chunks=[b'{"id": 5}'])]
    with pytest.raises(ApiError, match="not understood"):
        client.of_job(lambda job: job.status())


def test_an_answer_that_is_cut_short_is_no_answer(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["PUT " + f"/jobs/{JOB}/kill"] = [Answer(chunks=[b"{"], cut=True)]
    with pytest.raises(Disconnected):
        client.of_job(lambda job: job.kill())
    assert len(daemon.asked("PUT", f"/jobs/{JOB}/kill")) == 1


def test_a_start_that_is_not_answered_may_have_happened(daemon: FakeDaemon, socket: Path) -> None:
    """It is asked once, and what is not known is said."""
    daemon.answers["POST /jobs/run"] = [Answer(before=daemon.close)]
    with (
        blocking.connect(socket) as supervisor,
        pytest.raises(Disconnected, match="is not known") as caught,
    ):
        supervisor.start(["true"])
    assert caught.value.hint == "jobsup ls --all"
    assert len(daemon.asked("POST", "/jobs/run")) == 1


# ---- errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not-found", NoSuchJob),
        ("ambiguous", Ambiguous),
        ("wrong-state", WrongState),
        ("forbidden", Forbidden),
        ("quota", QuotaExceeded),
        ("not-ready", NotReady),
        ("storage-full", StorageFull),
        ("limit-not-enforceable", LimitNotEnforceable),
        ("path-refused", PathRefused),
        ("launch-failed", LaunchFailed),
        ("host-not-supported", jobsup.HostNotSupported),
        ("of the future", ApiError),
    ],
)
def test_each_code_is_its_class(code: str, kind: type[jobsup.JobsupError]) -> None:
    made = error_of(ErrorInfo(code, "why", hint="what to do", field="rw", value="/x"))
    assert type(made) is kind
    assert (made.message, made.hint, str(made)) == ("why", "what to do", "why")


def test_every_code_of_the_protocol_makes_an_error() -> None:
    for code in ERROR_STATUS:
        assert error_of(ErrorInfo(code, "why", field="mem")).args


def test_a_bad_value_names_its_field_as_where_it_is_refused() -> None:
    original = BadValue("mem", "12Q", "is not a size", "with {swap=1G}")
    info = ErrorInfo(
        "bad-value", original.message, original.hint, "mem", "12Q", original.why, original.remedy
    )
    made = error_of(info)
    assert isinstance(made, BadValue)
    assert made.message == original.message
    assert made.sentence(lambda field, value: f"--{field}") == "--mem: '12Q' is not a size"
    assert made.advice(lambda field, value: f"--{field} {value}") == "with --swap 1G"


def test_what_a_daemon_refuses_is_raised(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {STATUS}"] = [error("not-found", "there is no job x", 404)]
    with pytest.raises(NoSuchJob, match="there is no job x"):
        client.of_job(lambda job: job)


def test_what_can_be_no_id_is_never_asked_for(client: Client, daemon: FakeDaemon) -> None:
    for ref in ("", "..", ".", "a/b", "a?b", "a b", "x" * 65, "ä"):
        with pytest.raises(NoSuchJob):
            client.do(methodcaller("job", ref))
    assert {asked.target for asked in daemon.requests} == {"/ping"}


# ---- start


def test_a_job_with_bytes_for_stdin_is_a_form(daemon: FakeDaemon, socket: Path) -> None:
    daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"}, 201)]
    stdin = bytes(range(256)) * 4096
    with blocking.Supervisor(str(socket)) as supervisor:
        started = supervisor.run(request(calls.start({"argv": ["cat"]}, stdin)))
    assert started.id == JOB
    (asked,) = daemon.requests
    kind, _, boundary = asked.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    job, fed = asked.body.split(f"--{boundary}".encode())[1:3]
    assert job.endswith(b'\r\n\r\n{"argv":["cat"]}\r\n')
    assert b'name="job"' in job
    assert fed.partition(b"\r\n\r\n")[2] == stdin + b"\r\n"
    assert b'name="stdin"' in fed


@pytest.mark.parametrize("as_path", [True, False])
def test_a_file_for_stdin_is_sent(as_path: bool, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"})]
    (tmp_path / "in").write_bytes(b"to be read")
    given: calls.Stdin = tmp_path / "in" if as_path else io.BytesIO(b"to be read")
    with blocking.Supervisor(str(daemon.path)) as supervisor:
        supervisor.run(request(calls.start({}, given)))
    assert b"\r\n\r\nto be read\r\n--" in daemon.requests[0].body


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadValue) as caught:
        calls.start({}, "/nowhere/at/all")
    assert caught.value.field == "stdin"


# ---- the verbs


@pytest.mark.parametrize(
    ("action", "method", "path", "body"),
    [
        (lambda j: j.stop(), "PUT", "stop", {"signal": None, "grace": None}),
        (lambda j: j.stop("INT", "3s"), "PUT", "stop", {"signal": "INT", "grace": "3s"}),
        (lambda j: j.signal(1), "PUT", "signal", {"signal": 1}),
        (lambda j: j.set(mem="1G", cpus=None), "PUT", "set", {"mem": "1G"}),
        (lambda j: j.kill(), "PUT", "kill", None),
        (lambda j: j.pause(), "PUT", "pause", None),
        (lambda j: j.resume(), "PUT", "resume", None),
    ],
)
def test_a_verb_is_a_request(
    client: Client, daemon: FakeDaemon, action: Any, method: str, path: str, body: object
) -> None:
    daemon.answers[f"{method} /jobs/{JOB}/{path}"] = [Answer(204), json_answer(job_status())]
    client.of_job(action)
    (asked,) = daemon.asked(method, f"/jobs/{JOB}/{path}")
    assert (asked.json if asked.body else None) == body


def test_remove(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"DELETE /jobs/{JOB}"] = [json_answer({})]
    client.of_job(lambda job: job.remove(force=True))
    assert daemon.requests[-1].query == {"force": "1"}


def test_every_page_is_listed(client: Client, daemon: FakeDaemon) -> None:
    wanted = "id name state user argv attempt queued_at started_at ended_at cause status message"
    line = {key: job_status().get(key) for key in wanted.split()}
    daemon.answers["GET /jobs"] = [
        json_answer({"jobs": [{**line, "id": "b"}], "next": "b+"}),
        json_answer({"jobs": [{**line, "id": "a"}], "next": None}),
    ]
    found = client.do(lambda supervisor: _listed(supervisor.jobs(state="running")))
    assert [job.id for job in found] == ["b", "a"]
    first, second = daemon.asked("GET", "/jobs")
    assert first.query["state"] == "running"
    assert second.query["after"] == "b%2B"


def _listed(found: Any) -> Any:
    if isinstance(found, Iterator):
        return list(found)

    async def inside() -> list[Any]:
        return [each async for each in found]

    return inside()


def test_prune_and_control(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["POST /jobs/prune"] = [json_answer({"removed": ["a"]})]
    daemon.answers["PUT /control/stop"] = [json_answer({"state": "unready"})]
    assert client.do(lambda supervisor: supervisor.prune(older="1d")) == ["a"]
    assert client.do(lambda supervisor: supervisor.control("stop")).state == "unready"
    with pytest.raises(BadValue):
        client.do(lambda supervisor: supervisor.control("explode"))


def test_events(client: Client, daemon: FakeDaemon) -> None:
    line = b'{"time": "t", "id": "a", "name": null, "user": "u", "attempt": 1, "state": "queued"}\n'
    daemon.answers["GET /events"] = [Answer(chunks=[line[:9], line[9:] + b"\n" + line])]
    found = client.do(lambda supervisor: _listed(supervisor.events()))
    assert [(event.id, event.state) for event in found] == [("a", "queued")] * 2


# ---- waiting


def test_wait_gives_the_verdict(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {WAIT}"] = [json_answer(ended("timeout", 124))]
    found = client.of_job(lambda job: job.wait())
    assert isinstance(found, jobsup.Verdict)
    assert (found.cause, found.status, found.usage.memory_peak) == ("timeout", 124, 4096)
    assert found.argv == (b"sleep", b"60")


def test_a_verdict_travels() -> None:
    plain = verdict("memory", 137)
    made = jobsup.Verdict.from_dict({**plain, "of_the_future": 1})
    again = made.to_dict()
    assert {key: again[key] for key in plain if key != "usage"} == {
        key: value for key, value in plain.items() if key != "usage"
    }


def test_wait_for_so_long(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {WAIT}"] = [json_answer(job_status())]
    with pytest.raises(StillRunning):
        client.of_job(lambda job: job.wait(0.5))
    assert 0 < float(daemon.requests[-1].query["timeout"]) <= 0.5


def test_wait_survives_a_restart(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {WAIT}"] = [
        Answer(cut=True),
        error("not-ready", "starting", 503),
        json_answer(ended()),
    ]
    assert client.of_job(lambda job: job.wait()).state == "completed"


def test_patience_ends(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {WAIT}"] = [Answer(cut=True, before=daemon._listener.close)]
    with pytest.raises((NoDaemon, Disconnected)):
        client.of_job(lambda job: job.wait(patience=0.2))


# ---- output


RUNNING = json_answer(job_status())


def ended_at(attempt: int) -> Answer:
    return json_answer({**ended(), "attempt": attempt})


def test_output_to_its_end(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {STATUS}"] = [RUNNING, RUNNING, ended_at(1)]
    daemon.answers[f"GET {OUT}"] = [Answer(chunks=[b"a\0", b"b"], headers={"Jobsup-Offset": "0"})]
    assert b"".join(client.of_job(lambda job: job.output("stdout"))) == b"a\0b"
    (asked,) = daemon.asked("GET", OUT)
    assert asked.query == {"stream": "stdout", "follow": "1", "attempt": "1"}


def test_a_broken_stream_goes_on_behind_its_last_byte(client: Client, daemon: FakeDaemon) -> None:
    """By offset, also where the beginning was found by lines; and in the attempt it was in."""
    daemon.answers[f"GET {STATUS}"] = [
        json_answer(job_status(attempt=3)),
        json_answer(job_status(attempt=3)),
        json_answer(job_status(attempt=4)),
        ended_at(4),
    ]
    daemon.answers[f"GET {OUT}"] = [
        Answer(chunks=[b"cd"], headers={"Jobsup-Offset": "2"}, cut=True),
        error("not-ready", "starting", 503),
        Answer(chunks=[b"ef"], headers={"Jobsup-Offset": "4"}),
        Answer(chunks=[b"gh"], headers={"Jobsup-Offset": "0"}),
    ]
    assert b"".join(client.of_job(lambda job: job.output(tail=2))) == b"cdefgh"
    first, _, again, following = daemon.asked("GET", OUT)
    assert first.query["tail"] == "2"
    assert again.query == {"follow": "1", "offset": "4", "attempt": "3"}
    assert following.query == {"follow": "1", "attempt": "4"}


def test_a_follower_goes_on_to_the_next_attempt(client: Client, daemon: FakeDaemon) -> None:
    """It begins with the last that ran, and is in the daemon's hands until another one does; that
    none will come is known when the job has ended."""
    waits, runs = (json_answer(job_status(state, attempt=2)) for state in ("queued", "running"))
    daemon.answers[f"GET {STATUS}"] = [waits, waits, waits, runs, runs, runs, ended_at(2)]
    daemon.answers[f"GET {OUT}"] = [
        Answer(chunks=[b"one"]),
        Answer(chunks=[b"t"], cut=True),
        Answer(chunks=[b"wo"]),
        error("bad-value", "is not begun", field="attempt", value="3", why="is not begun"),
    ]
    found = client.of_job(lambda job: job.output("stdout", tail=5))
    assert b"".join(found) == b"onetwo"
    asked = [each.query for each in daemon.asked("GET", OUT)]
    assert [each["attempt"] for each in asked] == ["1", "2", "2", "3"]
    assert [each.get("offset") for each in asked] == [None, None, "1", None]
    assert ["tail" in each for each in asked] == [True, False, False, False]


def test_a_follower_of_one_attempt_ends_with_it(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {OUT}"] = [Answer(chunks=[b"one"])]
    assert client.of_job(lambda job: job.output("stdout", attempt=1)) == [b"one"]


def test_a_slow_follower_goes_on_with_what_is_kept(client: Client, daemon: FakeDaemon) -> None:
    run = {"started_at": None, "ended_at": None, "verdict": None}
    kept = [{"attempt": number, **run} for number in (5, 6)]
    later = json_answer(job_status("queued", attempt=7, attempts=kept))
    daemon.answers[f"GET {STATUS}"] = [RUNNING, RUNNING, *[later] * 4, ended_at(6)]
    daemon.answers[f"GET {OUT}"] = [
        Answer(chunks=[b"one"]),
        error("not-found", "the output of attempt 5 is not kept", 404),
        Answer(chunks=[b"six"]),
    ]
    assert b"".join(client.of_job(lambda job: job.output("stdout"))) == b"onesix"
    assert [each.query["attempt"] for each in daemon.asked("GET", OUT)] == ["1", "5", "6"]


def test_a_follower_of_a_job_that_is_removed_ends(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {STATUS}"] = [RUNNING, RUNNING, error("not-found", "no job", 404)]
    daemon.answers[f"GET {OUT}"] = [Answer(chunks=[b"one"])]
    assert client.of_job(lambda job: job.output("stdout")) == [b"one"]


def test_which_attempt_is_read_the_daemon_says(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {STATUS}"] = [json_answer(job_status("queued", attempt=3))]
    head = {"Jobsup-Offset": "0", "Jobsup-Attempt": "2"}
    daemon.answers[f"GET {OUT}"] = [
        Answer(chunks=[b"a"], headers=head, cut=True),
        Answer(chunks=[b"b"], headers={**head, "Jobsup-Offset": "1"}),
    ]
    assert client.of_job(lambda job: job.output(follow=False)) == [b"a", b"b"]
    first, again = daemon.asked("GET", OUT)
    assert (first.query, again.query) == ({}, {"offset": "1", "attempt": "2"})


def test_output_of_a_daemon_that_stays_away(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers[f"GET {OUT}"] = [Answer(chunks=[b"a"], cut=True, before=daemon._listener.close)]
    with pytest.raises((NoDaemon, Disconnected)):
        client.of_job(lambda job: job.output(patience=0.2))


def body_of(chunks: list[bytes]) -> bytes:
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    return b"".join(parts) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 30))
def test_chunks_are_found_wherever_they_are_cut(chunks: list[bytes], size: int) -> None:
    body = body_of(chunks) + b"HTTP"
    taking = Chunks()
    found, rest = b"", b""
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        if taking.over:
            rest += piece
        else:
            found += b"".join(taking.take(piece))
            rest += taking.rest
    assert (found, rest, taking.over) == (b"".join(chunks), b"HTTP", True)


def test_extensions_and_trailers_of_chunks_are_left_out() -> None:
    taking = Chunks()
    body = b"3;ext=1\r\nabc\r\n00\r\nTrailer: x\r\n\r\n"
    assert b"".join(taking.take(body)) == b"abc"
    assert taking.over


@pytest.mark.parametrize("body", [b"x\r\n", b"\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"1" * 5000])
def test_what_are_no_chunks_is_not_taken_for_some(body: bytes) -> None:
    with pytest.raises(NotChunks):
        list(Chunks().take(body))


HEADER = struct.Struct("<IIQQ")


def frame(stream: int, data: bytes, at: int = 0) -> bytes:
    return HEADER.pack(stream, len(data), at, 7) + data


def test_frames(client: Client, daemon: FakeDaemon) -> None:
    body = frame(1, b"out") + frame(2, b"err")
    daemon.answers[f"GET {STATUS}"] = [RUNNING, RUNNING, RUNNING, ended_at(1)]
    daemon.answers[f"GET {OUT}"] = [
        Answer(chunks=[body[:10], body[10:26]], cut=True),
        Answer(chunks=[frame(1, b"t", 2) + frame(2, b"err")], headers={"Jobsup-Offset": "2"}),
    ]
    found = client.of_job(lambda job: job.frames())
    assert found == [
        Frame("stdout", 7, b"ou"),
        Frame("stdout", 7, b"t"),
        Frame("stderr", 7, b"err"),
    ]
    assert daemon.asked("GET", OUT)[-1].query["offset"] == "2"


@pytest.mark.parametrize("size", [1, 3, 24, 25, 1000])
def test_frames_are_found_wherever_they_are_cut(size: int) -> None:
    body = b"".join(frame(1 + number % 2, bytes([number]) * number) for number in range(1, 40))
    unframing = Unframing()
    found = [
        piece for at in range(0, len(body), size) for piece in unframing.take(body[at : at + size])
    ]
    for number, stream in ((0, "stdout"), (1, "stderr")):
        wanted = b"".join(bytes([n]) * n for n in range(1, 40) if n % 2 == number)
        assert b"".join(piece.data for piece in found if piece.stream == stream) == wanted


def test_a_frame_of_no_stream_is_not_understood() -> None:
    with pytest.raises(ApiError):
        list(Unframing().take(frame(3, b"x")))


def test_the_errno_of_a_socket_that_may_not_be_used() -> None:
    refused = NoDaemon("/x", OSError(errno.EACCES, os.strerror(errno.EACCES)))
    assert "Permission denied" in refused.message
