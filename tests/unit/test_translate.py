"""What a spec gets its job: identity, environment, program, limits, with the host's own users."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jobsup.isolation import (
    CAPABILITIES,
    DEFAULT_ROOT_CAPABILITIES,
    Bind,
    Identity,
    IoLimit,
    Limits,
    Program,
    Rlimit,
    Scratch,
    Walls,
    Watch,
    WhenFull,
)
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.translate import Caller, candidates, translate, user_name

ROOT = Caller(0, 0, (0, 4), {b"PATH": b"/odd", b"TERM": b"xterm", b"LC_ALL": b"C", b"SECRET": b"s"})
ALICE = Caller(54321, 54321, (54321, 54322), {})
NOBODY = pwd.getpwnam("nobody")
# No passwd entry and no group has this number on any machine that tests run on.
UNKNOWN = 3_999_999_999


def walls_of(argv: Sequence[str], caller: Caller, options: Mapping[str, object]) -> Walls:
    return translate(Spec.make(argv, **options), "job-1", caller)[0]


def made(caller: Caller = ROOT, /, **options: object) -> Walls:
    return walls_of(["true"], caller, options)


def ran(*argv: str, **options: object) -> Program:
    return walls_of(argv, ROOT, options).program


def limits(**options: object) -> Limits:
    return translate(Spec.make(["true"], **options), "job-1", ROOT)[1]


def knobs(**options: object) -> dict[str, str]:
    return {knob.file: knob.value for knob in limits(**options).knobs}


def environment(caller: Caller = ROOT, **options: object) -> dict[bytes, bytes]:
    return dict(made(caller, **options).program.environment)


def refused(
    field: str, caller: Caller = ROOT, /, argv: Sequence[str] = ("true",), **options: object
) -> BadValue:
    with pytest.raises(BadValue) as caught:
        walls_of(argv, caller, options)
    assert caught.value.field == field
    return caught.value


# ---- identity


def test_a_job_is_its_callers_unless_said() -> None:
    assert made().identity == Identity(0, 0, (0, 4), DEFAULT_ROOT_CAPABILITIES)
    assert made(ALICE).identity == Identity(54321, 54321, (54321, 54322), frozenset())


def test_a_named_user_comes_with_their_groups_and_without_capabilities() -> None:
    groups = tuple(os.getgrouplist("nobody", NOBODY.pw_gid))
    wanted = Identity(NOBODY.pw_uid, NOBODY.pw_gid, groups, frozenset())
    assert made(user="nobody").identity == wanted
    assert made(user=NOBODY.pw_uid).identity == wanted
    assert made(user=str(NOBODY.pw_uid)).identity == wanted


def test_groups_can_be_said_one_by_one() -> None:
    assert made(group=7).identity.gid == 7
    assert made(groups=[7, "root"]).identity.groups == (7, 0)
    assert made(user="nobody", groups="none").identity.groups == ()


def test_a_number_without_an_entry_runs_in_a_group_of_nobody_elses() -> None:
    assert made(user=UNKNOWN).identity == Identity(UNKNOWN, UNKNOWN, (), frozenset())
    assert made(user=UNKNOWN, group=5).identity == Identity(UNKNOWN, 5, (), frozenset())


def test_who_is_not_there_is_refused() -> None:
    assert "not a user" in str(refused("user", user="no-such-user"))
    assert "not a group" in str(refused("group", group="no-such-group"))
    refused("groups", groups=["no-such-group"])
    refused("user", user="\udcff")


def test_only_root_runs_jobs_as_others() -> None:
    refused("user", ALICE, user="root")
    refused("group", ALICE, group=0)
    refused("groups", ALICE, groups=[0])
    refused("cap", ALICE, cap="net_raw")
    assert made(ALICE, group=54322, groups=[54321]).identity.gid == 54322


def test_capabilities_change_in_the_order_given() -> None:
    default = DEFAULT_ROOT_CAPABILITIES
    assert made(cap="none").identity.capabilities == frozenset()
    assert made(cap="all").identity.capabilities == frozenset(CAPABILITIES)
    assert made(cap="net_raw").identity.capabilities == default | {"net_raw"}
    assert made(cap="-kill").identity.capabilities == default - {"kill"}
    assert made(cap=["none", "chown"]).identity.capabilities == {"chown"}
    assert made(cap=["chown", "none"]).identity.capabilities == frozenset()


def test_a_capability_that_an_exec_would_take_away_again_is_refused() -> None:
    assert "no effect" in str(refused("cap", user="nobody", cap="net_raw"))
    refused("cap", user="nobody", cap="all")
    assert made(user="nobody", cap=["none", "-kill"]).identity.capabilities == frozenset()


# ---- environment


def test_the_environment_is_clean() -> None:
    assert environment() == {
        b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"HOME": os.fsencode(pwd.getpwuid(0).pw_dir),
        b"USER": b"root",
        b"LOGNAME": b"root",
        b"SHELL": os.fsencode(pwd.getpwuid(0).pw_shell),
        b"TERM": b"xterm",
        b"LC_ALL": b"C",
        b"JOBSUP_JOB_ID": b"job-1",
    }


def test_the_environment_is_the_target_users() -> None:
    found = environment(user="nobody")
    assert (found[b"USER"], found[b"HOME"]) == (b"nobody", os.fsencode(NOBODY.pw_dir))
    assert b"sbin" not in found[b"PATH"]
    assert environment(user=UNKNOWN)[b"USER"] == str(UNKNOWN).encode()


def test_variables_are_set_or_passed_on() -> None:
    found = environment(env=["A=1", "SECRET", "ABSENT", "TERM=dumb", "JOBSUP_JOB_ID=forged"])
    assert (found[b"A"], found[b"SECRET"], found[b"TERM"]) == (b"1", b"s", b"dumb")
    assert b"ABSENT" not in found
    assert found[b"JOBSUP_JOB_ID"] == b"job-1"


def test_all_can_be_inherited_but_what_speaks_of_the_callers_descriptors() -> None:
    given = {b"LISTEN_FDS": b"3", b"NOTIFY_SOCKET": b"/x", b"LD_PRELOAD": b"y", b"USER": b"odd"}
    caller = Caller(0, 0, (), given)
    found = environment(caller, inherit_env=True)
    assert (found[b"LD_PRELOAD"], found[b"USER"]) == (b"y", b"odd")
    assert b"LISTEN_FDS" not in found and b"NOTIFY_SOCKET" not in found
    assert environment(caller, inherit_env=True, user="nobody")[b"USER"] == b"nobody"


# ---- the program


def test_a_bare_name_is_looked_for_along_the_jobs_own_path() -> None:
    program = ran("ls", "-l", env="PATH=/a:rel::/b/", cwd="/work")
    assert program.argv == (b"ls", b"-l")
    assert program.candidates == (b"/a/ls", b"/work/rel/ls", b"/work/ls", b"/b//ls")


@pytest.mark.parametrize(
    ("command", "path"),
    [(b"/bin/ls", b"/bin/ls"), (b"./x", b"/w/x"), (b"d/x", b"/w/d/x"), (b"../x", b"/w/../x")],
)
def test_a_path_is_taken_from_the_working_directory(command: bytes, path: bytes) -> None:
    assert candidates(command, b"/bin", b"/w") == (path,)


def test_commands_of_the_root_directory() -> None:
    assert candidates(b"./x", b"/bin", b"/") == (b"/x",)


def test_every_resource_limit_is_stated() -> None:
    stated = {
        limit.resource: limit for limit in made(rlimit=["core=0", "nofile=8:9"]).program.rlimits
    }
    assert stated[resource.RLIMIT_NOFILE] == Rlimit(resource.RLIMIT_NOFILE, 8, 9)
    assert stated[resource.RLIMIT_CORE] == Rlimit(resource.RLIMIT_CORE, 0, 0)
    assert len(stated) == 15


def test_more_descriptors_than_the_host_has_are_refused_before_anything_is_made() -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    made(rlimit=f"nofile={most}")
    for beyond in (f"nofile=8:{most + 1}", "nofile=unlimited"):
        assert str(most) in str(refused("rlimit", rlimit=beyond).hint)


def test_a_command_that_is_too_long_is_named_by_its_first_word() -> None:
    long = refused("argv", argv=("echo", *["x" * 1000] * 7000))
    assert str(long).startswith("argv: 'echo' with its arguments and environment takes ")


def test_what_execve_would_refuse_is_refused_before_anything_is_made() -> None:
    many = ("echo", *["x" * 1000] * 3000)
    assert "Argument list too long" in str(refused("argv", argv=many))
    assert ran(*many, rlimit="stack=unlimited").argv[0] == b"echo"
    refused("argv", argv=("echo", "x" * 100_000, "y" * 100_000), rlimit="stack=64K")


def test_the_environment_counts_too() -> None:
    caller = Caller(0, 0, (), {b"V%d" % n: b"x" * 100_000 for n in range(30)})
    refused("argv", caller, inherit_env=True)
    refused("env", Caller(0, 0, (), {b"V": b"x" * 131_072}), inherit_env=True)


# ---- files, network, watch


def test_files_and_network() -> None:
    walls = made(rw="/a", ro="/b:/c", tmpfs="/d", net="host", hostname="h", cwd="/w")
    assert walls.files.grants == (Bind(b"/a", b"/a", True), Bind(b"/b", b"/c"), Scratch(b"/d"))
    assert (walls.network, walls.hostname, walls.files.cwd) == ("host", b"h", b"/w")


def test_our_own_state_is_hidden_whatever_was_granted() -> None:
    assert set(made(rw="/").files.hidden) == {b"/run/jobsup", b"/var/lib/jobsup"}


def test_what_the_init_watches() -> None:
    assert made().watch == Watch(None, None, 5000, None, WhenFull.DROP)
    walls = made(time="1.5s", cpu_time="2s", grace=0, output_max="1K", output_full="kill")
    assert walls.watch == Watch(1500, 2_000_000, 0, 1024, WhenFull.KILL)
    assert made(time="1us").watch.wall_ms == 1


# ---- limits


def test_processes_are_always_limited() -> None:
    assert knobs() == {"pids.max": "4096"}
    assert knobs(pids="max") == {"pids.max": "max"}
    assert knobs(cgroup="pids.max=7") == {"pids.max": "7"}


def test_a_memory_limit_cannot_be_swapped_around_and_kills_the_whole_job() -> None:
    wanted = {"memory.max": "268435456", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert knobs(mem="256M") == wanted | {"pids.max": "4096"}
    assert knobs(cgroup="memory.max=268435456") == wanted | {"pids.max": "4096"}
    assert knobs(mem="1G", swap="max")["memory.swap.max"] == "max"
    assert knobs(mem="1G", oom_group=False)["memory.oom.group"] == "0"
    assert knobs(mem="1G", cgroup="memory.swap.max=5")["memory.swap.max"] == "5"
    assert "memory.oom.group" not in knobs(cgroup="memory.max=max")


def test_each_option_writes_its_file_and_says_so() -> None:
    asked = {
        "mem_high": "2M", "mem_low": "1M", "swap": "3M", "cpus": 0.5, "cpu_weight": 50,
        "cpuset": "0-1", "io_weight": 200, "cgroup": "misc.max=x 1",
    }  # fmt: skip
    assert {(knob.file, knob.value, knob.flag) for knob in limits(**asked).knobs} == {
        ("pids.max", "4096", "pids"),
        ("memory.high", "2097152", "mem_high"),
        ("memory.low", "1048576", "mem_low"),
        ("memory.swap.max", "3145728", "swap"),
        ("cpu.max", "50000 100000", "cpus"),
        ("cpu.weight", "50", "cpu_weight"),
        ("cpuset.cpus", "0-1", "cpuset"),
        ("io.weight", "default 200", "io_weight"),
        ("misc.max", "x 1", "cgroup"),
    }
    assert limits(io_max="/srv:wbps=1").io == (IoLimit(b"/srv", wbps=1),)


# ---- callers


def test_the_current_caller_is_this_process() -> None:
    caller = Caller.current()
    assert (caller.uid, caller.gid) == (os.geteuid(), os.getegid())
    assert caller.environment[b"PATH"] == os.environb[b"PATH"]


def test_user_names() -> None:
    assert user_name(0) == "root"
    assert user_name(UNKNOWN) == str(UNKNOWN)
