"""`jobsup set`: what is written into the leaf of a job that runs, and what cannot be changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobsup.isolation import IoLimit
from jobsup.supervisor.daemon.changes import CHANGEABLE, changed_request
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.paths import Paths
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.request import Request
from jobsup.supervisor.spec import Spec

PATHS = Paths(Path("/state/lib"), Path("/state/run"))


def live(uid: int = 0, *, running: bool = True, **options: object) -> LiveJob:
    """What of a live job a change looks at."""
    record = Record(id="a", uid=uid, gid=uid, queued_ns=1)
    request = Request.make(["true"], cwd="/", restart="always", **options)
    handle = object() if running else None
    return cast("LiveJob", SimpleNamespace(record=record, request=request, handle=handle))


def written(job: LiveJob, **options: Any) -> dict[str, str]:  # noqa: ANN401 - as from JSON
    """The files of the leaf that these options change."""
    return {knob.file: knob.value for knob in changed_request(job, options, PATHS)[1].knobs}


def refused(field: str, job: LiveJob, **options: Any) -> BadValue:  # noqa: ANN401
    with pytest.raises(BadValue) as caught:
        changed_request(job, options, PATHS)
    assert caught.value.field == field
    return caught.value


def test_only_what_changes_is_written() -> None:
    job = live(mem="256M", cpus=1, name="web")
    assert written(job, mem="512M") == {"memory.max": str(512 << 20)}
    assert written(job, mem="256M") == {}
    assert written(job, cpus=2, pids=10) == {"cpu.max": "200000 100000", "pids.max": "10"}
    assert written(job, io_weight=5) == {"io.weight": "default 5"}


def test_a_first_memory_limit_comes_with_what_it_implies() -> None:
    wanted = {"memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert written(live(), mem="1M") == wanted


def test_the_request_is_the_old_one_with_the_new_limits() -> None:
    job = live(mem="256M", rw=[(b"/with:colon", b"/x")], env={"A": b"\xff"})
    request, _ = changed_request(job, {"mem": "512M"}, PATHS)
    assert request.restart.kind == "always"
    assert request.spec.mem == 512 << 20
    assert (request.spec.rw, request.spec.env) == (job.request.spec.rw, job.request.spec.env)


def test_what_has_a_default_goes_back_to_it() -> None:
    assert written(live(pids=10), pids=None) == {"pids.max": "4096"}


def test_devices_are_limited_anew() -> None:
    job = live(io_max="8:0:rbps=1M")
    _, limits = changed_request(job, {"io_max": ["8:0:rbps=2M,wbps=1M"]}, PATHS)
    assert limits.io == (IoLimit(b"8:0", rbps=2 << 20, wbps=1 << 20),)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"mem": "1M"}, {"mem": None}),
        ({"cpus": 1}, {"cpus": None}),
        ({"cpuset": "0"}, {"cpuset": None}),
        ({"cgroup": "memory.zswap.max=0"}, {"cgroup": {}}),
        ({"io_max": "8:0:rbps=1M"}, {"io_max": []}),
        ({"io_max": "8:0:rbps=1M"}, {"io_max": ["8:0:wbps=1M"]}),
        ({"io_max": "8:0:rbps=1M,wbps=1M"}, {"io_max": ["8:0:rbps=max"]}),
    ],
)
def test_a_limit_does_not_only_seem_to_go(asked: dict[str, Any], options: dict[str, Any]) -> None:
    (field,) = options
    assert "cannot be taken back" in str(refused(field, live(**asked), **options))
    changed_request(live(running=False, **asked), options, PATHS)  # not made yet: there is no leaf


def test_a_limit_is_lifted_by_max() -> None:
    implied = {"memory.swap.max": "max", "memory.oom.group": "0"}
    assert written(live(mem="1M"), mem="max") == {"memory.max": "max", **implied}
    assert written(live(mem="1M", swap="2M"), mem="max") == {
        "memory.max": "max", "memory.oom.group": "0",
    }  # fmt: skip
    assert written(live(mem="1M", swap="2M"), swap="max") == {"memory.swap.max": "max"}
    assert written(live(), mem="max") == {"memory.max": "max"}
    assert written(live(mem_high="1M", cpus=2), mem_high="max", cpus="max") == {
        "memory.high": "max", "cpu.max": "max",
    }  # fmt: skip
    assert written(live(mem_low="1M"), mem_low=0) == {"memory.low": "0"}
    job = live(io_max="8:0:rbps=1M,wiops=5")
    request, limits = changed_request(job, {"io_max": "8:0:rbps=max,wiops=max"}, PATHS)
    assert limits.io == (IoLimit(b"8:0", rbps="max", wiops="max"),)
    assert Request.from_plain(request.to_plain()).spec == request.spec


def test_a_lifted_limit_comes_back_with_what_it_implies() -> None:
    request, _ = changed_request(live(mem="1M"), {"mem": "max"}, PATHS)
    lifted = cast("LiveJob", SimpleNamespace(record=live().record, request=request, handle=1))
    wanted = {"memory.max": "2097152", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert written(lifted, mem="2M") == wanted


def test_who_takes_a_limit_back_is_told_how() -> None:
    assert refused("mem", live(mem="1M"), mem=None).remedy == "{mem=max} lifts it"
    assert refused("mem", live(mem="1M"), mem="much").remedy == (
        "a number of bytes, or one with a unit: 512K, 256M, 1.5G, or max"
    )


@pytest.mark.parametrize(
    "field",
    ["argv", "name", "rw", "root", "user", "env", "time", "net", "restart", "nonsense", "cls"],
)
def test_what_is_no_limit_of_the_leaf_stays(field: str) -> None:
    assert "cannot be changed" in str(refused(field, live(), **{field: "x"}))


def test_every_option_that_can_be_changed_is_one() -> None:
    known = Spec.__dataclass_fields__.keys()
    assert known >= CHANGEABLE


def test_nonsense_is_refused_by_name() -> None:
    refused("request", live(), **{"\u202emem": 1})
    refused("mem", live(), mem="much")
    refused("mem", live(), mem=True)
    refused("mem_high", live(mem_high="2M"), mem="1M")
    refused("io_max", live(), io_max=["data:rbps=1M"])  # of whose directory?


def test_a_user_changes_nothing_that_only_root_may_ask_for() -> None:
    alice = live(uid=54321, mem="256M")
    refused("cpu_weight", alice, cpu_weight=1000)
    refused("cgroup", alice, cgroup={"memory.zswap.max": "0"})
    refused("mem_low", alice, mem_low="1M")
    assert written(alice, cpu_weight=50) == {"cpu.weight": "50"}
