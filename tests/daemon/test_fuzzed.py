"""Requests that nobody planned, to the real server with the real engine: jobs with options of every
type, and every verb with any body, on jobs that run, wait and have ended. Never a 500, never a
hang, and no job that was not acknowledged. JOBSUP_FUZZ=2000 is the long form."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsup.supervisor.spec import Spec
from tests.daemon.conftest import long_form, served
from tests.daemon.served import Answer, Served

EXAMPLES = long_form("JOBSUP_FUZZ", 100)
# What a job is made of, and what is none of it.
OPTIONS = [*Spec.__dataclass_fields__, "after", "at", "every", "restart", "environment", "nonsense"]

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "0", "-1", "1", "64M", "1G", "10s", "max", "/", "/tmp", "/proc/self/fd/1",
                     "../..", "root", "nobody", "TERM", "KILL", "* * * * *", "on-failure:2", "a\0b",
                     "\ud800", "2026-12-01T02:00", "18446744073709551616", "1e400", "nan", "‮x"]),
)  # fmt: skip
_NUMBERS = st.one_of(
    st.integers(-2, 130),
    st.floats(),
    st.sampled_from([1 << 31, 1 << 32, 1 << 63, 1 << 64, -1 << 70]),
)
_SCALARS = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=2)
    ),
    max_leaves=4,
)
_JOBS = st.fixed_dictionaries(
    {"argv": st.one_of(st.just(["true"]), st.lists(_TEXTS, max_size=3), _VALUES)},
    optional={"cwd": st.one_of(st.just("/"), _TEXTS)},
).flatmap(
    lambda job: st.dictionaries(st.sampled_from(OPTIONS), _VALUES, max_size=3).map(
        lambda more: {"cwd": "/", **more, **job}
    )
)
_VERBS = st.sampled_from(
    [
        ("PUT", f"/{verb}")
        for verb in ("stop", "kill", "signal", "pause", "resume", "set", "nothing")
    ]
    + [("GET", path) for path in ("", "/status", "/out", "/wait")]
    + [("DELETE", ""), ("POST", ""), ("PATCH", "/set")]
)
_PARAMETERS = st.dictionaries(
    st.sampled_from(["stream", "frames", "offset", "tail", "since", "attempt", "force", "x"]),
    _SCALARS,
    max_size=2,
)
_SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def body_of(value: Any) -> bytes:  # noqa: ANN401 - JSON, or nearly
    return json.dumps(value).encode(errors="surrogatepass")


def checked(answer: Answer) -> Answer:
    assert answer.status < 500 or answer.code in ("launch-failed", "not-ready"), answer
    if answer.status >= 400 and answer.body:
        assert answer.code, answer
    return answer


def test_jobs_of_every_shape() -> None:
    with served() as daemon:
        acknowledged: set[str] = set()

        @_SETTINGS
        @given(_JOBS, st.sampled_from([0, 47001]))
        def attempt(job: Any, uid: int) -> None:  # noqa: ANN401
            answer = checked(daemon.ask("POST", "/jobs/run", body_of(job), uid=uid))
            if answer.status == 201:
                acknowledged.add(answer.said["id"])
                # What waits for 1e9 s, or is run every minute, is not waited for.
                daemon.ask("PUT", f"/jobs/{answer.said['id']}/kill")

        attempt()
        _require_books(daemon, acknowledged)
        print(f"\n{EXAMPLES} requests, {len(acknowledged)} jobs")


def _require_books(daemon: Served, acknowledged: set[str]) -> None:
    assert {line["id"] for line in daemon.api.all()} == acknowledged
    for job in acknowledged:
        assert daemon.api.wait(job)["verdict"]["message"]
    assert "Traceback" not in daemon.log.read_text(), daemon.log.read_text()[-4000:]


def test_every_verb_with_anything() -> None:
    with served("--max-running", "2") as daemon:
        living, other = (daemon.submit(["sleep", "1000"], mem="64M") for _ in range(2))
        queued, ended = daemon.submit(["sleep", "1000"]), daemon.submit(["true"], after="1h")
        daemon.api.stop(ended)
        jobs = [living, queued, ended, other]
        known = set(jobs)

        @_SETTINGS
        @given(st.sampled_from([0, 1, 2, 3]), _VERBS, _VALUES, _PARAMETERS)
        def attempt(which: int, verb: tuple[str, str], body: Any, query: Any) -> None:  # noqa: ANN401
            method, path = verb
            said = "&".join(
                f"{name}={quote(str(value), errors='replace')}" for name, value in query.items()
            )
            if path == "/wait":
                said = "timeout=0"
            data = None if method == "GET" else body_of(body)
            checked(daemon.ask(method, f"/jobs/{jobs[which]}{path}?{said}", data))
            _replace_the_gone(daemon, jobs, known)

        attempt()
        assert {line["id"] for line in daemon.api.all()} <= known
        assert "Traceback" not in daemon.log.read_text(), daemon.log.read_text()[-4000:]


def _replace_the_gone(daemon: Served, jobs: list[str], known: set[str]) -> None:
    """One that was killed or removed has a successor, but for the one that is to have ended."""
    for place, job in enumerate(jobs):
        answer = daemon.ask("GET", f"/jobs/{job}")
        ended = answer.status == 404 or answer.said["ended_at"] is not None
        if ended and (place != 2 or answer.status == 404):
            jobs[place] = daemon.submit(["sleep", "1000"], mem="64M")
            known.add(jobs[place])
            if place == 2:
                daemon.api.call("PUT", f"/jobs/{jobs[place]}/kill")
                daemon.api.wait(jobs[place])
