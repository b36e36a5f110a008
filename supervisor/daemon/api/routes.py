"""The table of the API: every path with its methods, and for each what it takes and answers.

The server finds its handlers here, and openapi.json is made from here, so neither knows a path that
the other does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp.web_response import StreamResponse

from ...protocol import (
    Control,
    Doctor,
    Event,
    JobPage,
    JobStatus,
    Ping,
    Pruned,
    PruneRequest,
    SignalRequest,
    Started,
    StopRequest,
)
from . import output, queries, routes_daemon, routes_jobs
from .call import Call
from .queries import Parameter
from .refusals import Refusal

Handler = Callable[[Call], Awaitable[StreamResponse]]

_OF_A_JOB = ("not-found", "ambiguous")
_OF_A_LAUNCH = (
    "limit-not-enforceable",
    "path-refused",
    "launch-failed",
    "host-not-supported",
    "storage-full",
)


@dataclass(frozen=True, slots=True)
class Route:
    """One request that can be made.

    `body` and `answer` are messages, or a media type where it is no JSON. `errors` are the codes
    that it may answer beside those of every request.
    """

    method: str
    path: str
    handler: Handler
    tells: str
    answer: type | str
    status: int = 200
    body: type | None = None
    query: tuple[Parameter, ...] = ()
    errors: tuple[str, ...] = ()
    root_only: bool = False
    media: str | None = None  # where a message is told in something else than plain JSON

    @property
    def name(self) -> str:
        """What documents call it."""
        words = self.path.replace("{", "").replace("}", "").strip("/").replace("/", "_")
        return f"{self.method.lower()}_{words.removesuffix('.json')}"


def _verb(verb: str, handler: Handler, tells: str, *more: str, body: type | None = None) -> Route:
    errors = (*_OF_A_JOB, "wrong-state", *more)
    return Route(
        "PUT", f"/jobs/{{ref}}/{verb}", handler, tells, JobStatus, body=body, errors=errors
    )


ROUTES = (
    Route(
        "POST",
        "/jobs/run",
        routes_jobs.run,
        "Take a job on. Answered when it is durable, and when it starts at once, after its launch.",
        Started,
        status=201,
        body=dict,
        errors=("bad-value", "forbidden", "quota", "not-ready", *_OF_A_LAUNCH),
    ),
    Route(
        "GET",
        "/jobs",
        routes_jobs.page,
        "Jobs, the newest first; those of everybody for root.",
        JobPage,
        query=(queries.STATE, queries.NAME, queries.LIMIT, queries.AFTER),
        errors=("bad-value",),
    ),
    Route(
        "POST",
        "/jobs/prune",
        routes_jobs.prune,
        "Forget jobs that ended some time ago.",
        Pruned,
        body=PruneRequest,
        errors=("bad-value",),
    ),
    Route(
        "GET",
        "/jobs/{ref}",
        routes_jobs.status,
        "All that is known of a job.",
        JobStatus,
        errors=_OF_A_JOB,
    ),
    Route(
        "GET",
        "/jobs/{ref}/status",
        routes_jobs.status,
        "All that is known of a job.",
        JobStatus,
        errors=_OF_A_JOB,
    ),
    Route(
        "GET",
        "/jobs/{ref}/wait",
        routes_jobs.wait,
        "Its status, once it has ended.",
        JobStatus,
        query=(queries.TIMEOUT,),
        errors=(*_OF_A_JOB, "bad-value"),
    ),
    Route(
        "GET",
        "/jobs/{ref}/out",
        output.out,
        "Its output. The last chunk comes only when all of it has been sent.",
        output.KIND[False],
        query=(
            queries.STREAM,
            queries.FRAMES,
            queries.FOLLOW,
            queries.OFFSET,
            queries.TAIL,
            queries.SINCE,
            queries.ATTEMPT,
        ),
        errors=(*_OF_A_JOB, "bad-value", "wrong-state", "quota"),
    ),
    _verb(
        "stop",
        routes_jobs.stop,
        "Ask it to end; kill it after its grace.",
        "bad-value",
        body=StopRequest,
    ),
    _verb("kill", routes_jobs.kill, "Kill every process of it."),
    _verb(
        "signal",
        routes_jobs.signal,
        "Send a signal to its first process's group.",
        "bad-value",
        body=SignalRequest,
    ),
    _verb("pause", routes_jobs.pause, "Freeze it; its wall time stands still."),
    _verb("resume", routes_jobs.resume, "Let it go on."),
    _verb(
        "set",
        routes_jobs.change,
        "Give it other limits, all of these or none.",
        "bad-value",
        "forbidden",
        "limit-not-enforceable",
        body=dict,
    ),
    Route(
        "DELETE",
        "/jobs/{ref}",
        routes_jobs.remove,
        "Forget an ended job: its record and its output.",
        Pruned,
        query=(queries.FORCE,),
        errors=(*_OF_A_JOB, "bad-value", "wrong-state"),
    ),
    Route(
        "GET",
        "/events",
        routes_daemon.events,
        "A line of JSON for each thing that happens to a job from now on. Who does not keep up is "
        "cut off.",
        Event,
        query=(queries.JOB,),
        errors=(*_OF_A_JOB, "quota"),
        media="application/x-ndjson",
    ),
    Route(
        "GET",
        "/metrics",
        routes_daemon.metrics,
        "Numbers about the daemon and its jobs, as Prometheus reads them.",
        "text/plain",
        root_only=True,
    ),
    Route(
        "GET",
        "/doctor",
        routes_daemon.doctor,
        "What the host has of what jobs need; some seconds old at most.",
        Doctor,
    ),
    Route("GET", "/ping", routes_daemon.ping, "Whether it is there.", Ping),
    Route("GET", "/control", routes_daemon.control, "Whether it takes new jobs.", Control),
    Route(
        "PUT",
        "/control/start",
        routes_daemon.start,
        "Take new jobs.",
        Control,
        root_only=True,
    ),
    Route(
        "PUT",
        "/control/stop",
        routes_daemon.stop,
        "Take no new jobs; those that it has go on.",
        Control,
        root_only=True,
    ),
    Route(
        "PUT",
        "/control/terminate",
        routes_daemon.terminate,
        "End every job and take no more. Answered when the last one has ended.",
        Control,
        root_only=True,
    ),
    Route("GET", "/openapi.json", routes_daemon.document, "This document.", "application/json"),
)

_Branches = dict[str, Any]


def _tree() -> _Branches:
    """The paths as nested dicts, one level a segment; "{}" stands for any segment."""
    root: _Branches = {}
    for route in ROUTES:
        branch = root
        for segment in route.path.split("/")[1:]:
            branch = branch.setdefault("{}" if segment.startswith("{") else segment, {})
        branch.setdefault("", {})[route.method] = route
    return root


_TREE = _tree()


def find(method: str, raw_path: str) -> tuple[Route, str]:
    """The route of a request, and the job that its path names.

    Raises:
        Refusal: there is no such path, or not with this method.
    """
    branch, ref = _TREE, ""
    for segment in raw_path.split("/")[1:]:
        if not segment or (segment not in branch and "{}" not in branch):
            raise Refusal("no-such-path", "there is nothing at this path", hint="/openapi.json")
        if segment not in branch:
            segment, ref = "{}", unquote(segment, errors="replace")
        branch = branch[segment]
    methods = branch.get("", {})
    route = methods.get("GET" if method == "HEAD" else method)
    if route is not None:
        return route, ref
    if not methods:
        raise Refusal("no-such-path", "there is nothing at this path", hint="/openapi.json")
    raise Refusal("wrong-method", f"this path has {', '.join(methods)}")
