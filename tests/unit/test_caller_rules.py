"""What only root may ask for, and what a job of the daemon's gets of its owner instead of ours."""

from __future__ import annotations

from resource import RLIM_INFINITY

import pytest

from jobsup.isolation import RLIMITS, all_rlimits
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.translate import HIDDEN, Caller, translate

ROOT = Caller(0, 0, (0,), {})
ALICE = Caller(54321, 54321, (54321, 54322), {b"LANG": b"C", b"SECRET": b"s"})


def asked_by(caller: Caller, options: dict[str, object]) -> None:
    translate(Spec.make(["true"], **options), "job-1", caller)


ONLY_ROOT: list[tuple[str, dict[str, object]]] = [
    ("mem_low", {"mem_low": "1M"}),
    ("cpu_weight", {"cpu_weight": 101}),
    ("io_weight", {"io_weight": 10_000}),
    ("cgroup", {"cgroup": "memory.zswap.max=0"}),
    ("oom_score_adj", {"oom_score_adj": -1}),
    ("cap", {"cap": "net_raw"}),
    ("io_max", {"io_max": ["8:0:rbps=1M", "/root/secret:rbps=1M"]}),
    ("user", {"user": 0}),
    ("group", {"group": 0}),
    ("groups", {"groups": [54321, 0]}),
    ("rlimit", {"rlimit": "nofile=1024:524289"}),
    ("rlimit", {"rlimit": "memlock=unlimited"}),
    ("rlimit", {"rlimit": "rtprio=1"}),
    ("rlimit", {"rlimit": "nice=20"}),
    ("rlimit", {"rlimit": ["core=0", "msgqueue=1M"]}),
    ("rlimit", {"rlimit": "locks=1"}),
]


@pytest.mark.parametrize(("field", "options"), ONLY_ROOT, ids=lambda value: str(value))
def test_it_is_refused_by_name_to_all_but_root(field: str, options: dict[str, object]) -> None:
    with pytest.raises(BadValue) as caught:
        asked_by(ALICE, options)
    assert caught.value.field == field
    asked_by(ROOT, options)


@pytest.mark.parametrize(
    "options",
    [
        {"cpu_weight": 100, "io_weight": 1},
        {"oom_score_adj": 1000},
        {"rlimit": ["nofile=1024", "core=0", "memlock=0", "nice=0"]},
        {"mem": "1G", "mem_high": "1G", "swap": "max", "pids": "max", "cpus": 8, "net": "host"},
        {"io_max": "8:0:wbps=1M"},
        {"user": 54321, "group": 54322, "groups": [54321, 54322], "cap": "none"},
        {"user": 54321, "group": 54321, "groups": "none"},
    ],
)
def test_what_is_ones_own_may_be_had(options: dict[str, object]) -> None:
    asked_by(ALICE, options)


def test_a_user_may_have_the_hard_limits_that_jobs_get_anyway() -> None:
    names = {number: name for name, number in RLIMITS.items()}
    for limit in all_rlimits(()):
        most = "unlimited" if limit.hard == RLIM_INFINITY else limit.hard
        asked_by(ALICE, {"rlimit": f"{names[limit.resource]}={most}"})


def test_an_owners_job_has_their_ids_their_variables_and_nothing_else() -> None:
    walls, _ = translate(Spec.make(["true"], env=["SECRET"]), "job-1", ALICE)
    identity = walls.identity
    assert (identity.uid, identity.gid, identity.groups) == (54321, 54321, (54321, 54322))
    assert identity.capabilities == frozenset()
    environment = dict(walls.program.environment)
    assert environment.pop(b"PATH") == b"/usr/local/bin:/usr/bin:/bin"
    assert environment == {
        b"HOME": b"/",
        b"USER": b"54321",
        b"LOGNAME": b"54321",
        b"SHELL": b"/bin/sh",
        b"LANG": b"C",
        b"SECRET": b"s",
        b"JOBSUP_JOB_ID": b"job-1",
    }


def test_the_directories_of_a_daemon_are_hidden() -> None:
    spec = Spec.make(["true"], rw="/")
    assert translate(spec, "job-1", ROOT)[0].files.hidden == HIDDEN
    hidden = (*HIDDEN, b"/srv/state/lib", b"/srv/state/run")
    assert translate(spec, "job-1", ROOT, hidden=hidden)[0].files.hidden == hidden
