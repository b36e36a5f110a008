"""A job is who it was promised to be, whoever and whatever its starter is."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsup.isolation import CAPABILITIES, DEFAULT_ROOT_CAPABILITIES
from tests.kernel.inside import NOBODY, Portrait, place, portrait
from tests.kernel.jobs import Jobs

SETS = ("CapPrm", "CapEff", "CapBnd")
ALWAYS_EMPTY = ("CapInh", "CapAmb")
# A starter unlike any job: everything that a process hands down is odd.
ODD = ["env", "-i", "HOME=/odd", "LANG=C.UTF-8", "TZ=Europe/Rome", "LC_TIME=C", "SECRET=1"]
ODD += ["LD_LIBRARY_PATH=/odd", "NOTIFY_SOCKET=/run/x", "LISTEN_FDS=1", "LISTEN_PID=1"]
ODD += ["WATCHDOG_USEC=1", "PATH=/usr/bin"]
ODD += ["prlimit", "--nofile=77:99", "--core=1:1", "--nproc=999:999", "nice", "-n", "7"]
ODD += ["ionice", "-c", "3", "chrt", "--batch", "0", "choom", "-n", "300", "--"]
ODD += ["setpriv", "--groups=7,8", "--inh-caps=+all", "--ambient-caps=+all", "--"]
ODD += ["sh", "-c", 'umask 077; trap "" INT TERM PIPE USR1; exec "$@"', "sh"]


@pytest.fixture
def odd(jobs: Jobs) -> Portrait:
    return portrait(jobs, wrapper=ODD)


def mask(names: frozenset[str]) -> int:
    return sum(1 << CAPABILITIES[name] for name in names)


def capabilities(job: Portrait, name: str) -> int:
    return int(job.status(name)[0], 16)


# ---- capabilities


def test_a_job_of_roots_keeps_what_ordinary_root_programs_need(jobs: Jobs) -> None:
    job = portrait(jobs)
    assert {capabilities(job, name) for name in SETS} == {mask(DEFAULT_ROOT_CAPABILITIES)}
    assert {capabilities(job, name) for name in ALWAYS_EMPTY} == {0}


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        (["none"], frozenset()),
        (["-kill", "-chown"], DEFAULT_ROOT_CAPABILITIES - {"kill", "chown"}),
        (["none", "net_raw"], frozenset({"net_raw"})),
        (["sys_ptrace"], DEFAULT_ROOT_CAPABILITIES | {"sys_ptrace"}),
    ],
)
def test_cap_changes_just_what_it_names(
    jobs: Jobs, changes: list[str], left: frozenset[str]
) -> None:
    job = portrait(jobs, cap=changes)
    assert {capabilities(job, name) for name in SETS} == {mask(left)}
    assert {capabilities(job, name) for name in ALWAYS_EMPTY} == {0}


def test_cap_all_is_every_capability_of_the_kernel(jobs: Jobs) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    job = portrait(jobs, cap="all")
    assert {capabilities(job, name) for name in SETS} == {(1 << last + 1) - 1}
    assert {capabilities(job, name) for name in ALWAYS_EMPTY} == {0}


def test_another_users_job_has_no_capability_at_all(jobs: Jobs) -> None:
    job = portrait(jobs, user="nobody")
    assert {capabilities(job, name) for name in (*SETS, *ALWAYS_EMPTY)} == {0}


def test_the_starters_inheritable_and_ambient_capabilities_end_with_it(odd: Portrait) -> None:
    """With inheritable ones, a program with file capabilities would gain them (CVE-2022-29162)."""
    assert {capabilities(odd, name) for name in ALWAYS_EMPTY} == {0}
    assert capabilities(odd, "CapBnd") == mask(DEFAULT_ROOT_CAPABILITIES)


@pytest.fixture
def setuid_id() -> Iterator[Path]:
    """`id`, setuid and setgid root, where a job sees it, on a file system that allows it."""
    with place() as directory:
        program = directory / "id"
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o6755)
        outside = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", "--clear-groups", program, "-u"],
            capture_output=True, check=True,
        )  # fmt: skip
        assert outside.stdout == b"0\n", "it gains nothing outside either"
        yield program


def test_a_setuid_program_gains_nothing(jobs: Jobs, setuid_id: Path) -> None:
    for grant in ({}, {"rw": setuid_id.parent}, {"ro": [f"{setuid_id.parent}:/run/there"]}):
        where = "/run/there/id" if "ro" in grant else str(setuid_id)
        job = jobs.run(
            ["sh", "-c", f"{where} -u; {where} -g; grep NoNewPrivs /proc/self/status"],
            user="nobody", **grant,
        )  # fmt: skip
        assert job.stdout.split() == [b"65534", b"65534", b"NoNewPrivs:", b"1"], job.stderr


# ---- ids


def test_a_user_by_numbers_is_these_numbers(jobs: Jobs) -> None:
    job = portrait(jobs, user=12345, group=23456, groups="5,6,4294967294")
    assert job.status("Uid") == ["12345"] * 4
    assert job.status("Gid") == ["23456"] * 4
    assert job.status("Groups") == ["5", "6", "4294967294"]


def test_a_user_by_name_is_who_a_login_would_be(jobs: Jobs) -> None:
    said = subprocess.run(["id", "-G", "games"], capture_output=True, text=True, check=True).stdout
    job = portrait(jobs, user="games")
    assert [job.status("Uid"), job.status("Gid")] == [["5"] * 4, ["60"] * 4]
    assert job.status("Groups") == said.split()


def test_a_job_has_the_callers_ids_and_groups(odd: Portrait) -> None:
    assert [odd.status("Uid"), odd.status("Gid")] == [["0"] * 4, ["0"] * 4]
    assert odd.status("Groups") == ["7", "8"]


def test_groups_none_is_none_at_all(jobs: Jobs) -> None:
    job = portrait(jobs, groups="none", wrapper=["setpriv", "--groups=7,8", "--"])
    assert job.status("Groups") == []


# ---- what a process inherits


def test_the_environment_is_clean(odd: Portrait) -> None:
    """Nothing speaks of the starter's sockets (NOTIFY_SOCKET …), libraries (LD_*) or secrets."""
    environment = odd.environment()
    assert environment.pop("JOBSUP_JOB_ID")
    assert environment == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TZ": "Europe/Rome",
        "LC_TIME": "C",
    }


def test_even_an_inherited_environment_names_no_socket_of_the_starters(jobs: Jobs) -> None:
    environment = portrait(jobs, wrapper=ODD, inherit_env=True).environment()
    assert environment["SECRET"] == "1"
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC"} & environment.keys()


def test_signals_are_neither_blocked_nor_ignored(jobs: Jobs) -> None:
    """Python ignores SIGPIPE, nohup SIGHUP, and a shell's background job SIGINT."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    for job in (portrait(jobs, wrapper=ODD), portrait(jobs, preexec=block)):
        for field in ("SigBlk", "SigIgn", "SigCgt"):
            assert int(job.status(field)[0], 16) == 0, field


def test_resource_limits_are_the_stated_ones(odd: Portrait) -> None:
    unlimited = ("unlimited", "unlimited")
    assert odd.limits() | {"Max realtime timeout": unlimited} == {
        "Max cpu time": unlimited,
        "Max file size": unlimited,
        "Max data size": unlimited,
        "Max stack size": ("8388608", "unlimited"),
        "Max core file size": ("0", "unlimited"),
        "Max resident set": unlimited,
        "Max processes": unlimited,
        "Max open files": ("1024", "524288"),
        "Max locked memory": ("8388608", "8388608"),
        "Max address space": unlimited,
        "Max file locks": unlimited,
        "Max pending signals": ("32768", "32768"),
        "Max msgqueue size": ("819200", "819200"),
        "Max nice priority": ("0", "0"),
        "Max realtime priority": ("0", "0"),
        "Max realtime timeout": unlimited,
    }


def test_rlimit_changes_just_what_it_names(jobs: Jobs) -> None:
    usual = portrait(jobs).limits()
    job = portrait(jobs, rlimit=["nofile=100:200", "core=1M"])
    changed = {name: value for name, value in job.limits().items() if value != usual[name]}
    expected = {"Max open files": ("100", "200"), "Max core file size": ("1048576", "1048576")}
    assert changed == expected


def test_scheduling_is_plain(jobs: Jobs) -> None:
    job = jobs.run(["sh", "-c", "nice; chrt -p $$; ionice"], wrapper=ODD)
    assert job.stdout.decode().splitlines()[0] == "0"
    assert b"SCHED_OTHER" in job.stdout
    assert b"none: prio" in job.stdout


def test_the_umask_is_the_usual_one(odd: Portrait) -> None:
    assert odd.status("Umask") == ["0022"]


def test_a_job_leads_a_session_without_a_terminal(odd: Portrait) -> None:
    pid = int(odd.status("Pid")[0])
    assert [odd.stat(field) for field in (5, 6, 7)] == [pid, pid, 0]


# ---- the out-of-memory killer


@pytest.mark.parametrize(("asked", "found"), [({}, 0), ({"oom_score_adj": 500}, 500)])
def test_oom_score_adj_is_the_stated_one(jobs: Jobs, asked: dict[str, int], found: int) -> None:
    assert int(portrait(jobs, wrapper=ODD, **asked)["oom_score_adj"]) == found


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_oom_score_adj_cannot_be_lowered(jobs: Jobs, user: str) -> None:
    """Neither below what was stated, nor, where the starter's own was lower, back to that."""
    shielded = ["choom", "-n", "-900", "--"]
    script = "echo 700 > /proc/self/oom_score_adj; echo 499 | tee /proc/self/oom_score_adj"
    job = jobs.run(["sh", "-c", script], user=user, oom_score_adj=500, wrapper=shielded)
    assert job.status != 0
    assert b"Permission denied" in job.stderr
