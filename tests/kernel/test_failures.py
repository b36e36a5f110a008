"""A job that cannot be started says which step failed and why, and leaves nothing behind.

Every step of a plan is made to fail, each by a plan that only differs in that step (and in what
goes before it to make it fail); the init and the kernel are the real ones.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from jobsup.isolation import (
    ExitRecord,
    Identity,
    Knob,
    Limits,
    Program,
    Rlimit,
    Streams,
    Walls,
    compile_plan,
    launch,
    spawn,
    steps,
)
from jobsup.isolation.plan import Plan
from jobsup.isolation.steps import Step
from tests.kernel.inside import place
from tests.kernel.jobs import Jobs

NO_RIGHTS = steps.Capabilities(frozenset())
LONG = b"/" + b"x" * 300
RO = steps.READ_ONLY


class Case(NamedTuple):
    """`step` in the place of the first of its kind, `before` right before it."""

    step: Step
    error: int
    before: tuple[Step, ...] = ()
    limits: Limits = Limits()


CASES = [
    Case(steps.Owner(1, 1, tuple(range(70_000))), errno.EINVAL),
    Case(steps.Root(b"/no/such", RO), errno.ENOENT),
    Case(steps.Root(b"/", 1 << 40), errno.EINVAL),
    Case(steps.Detach(LONG), errno.ENAMETOOLONG),
    Case(steps.Mount(b"nofs", b"/proc"), errno.ENODEV),
    Case(steps.Mount(b"tmpfs", b"/no/such"), errno.ENOENT),
    Case(steps.Mount(b"tmpfs", b"/tmp", (b"size=x",)), errno.EINVAL),
    Case(steps.Mount(b"tmpfs", b"/no/such", how=steps.CREATE), errno.EROFS),
    Case(steps.Mount(b"tmpfs", b"/etc/passwd"), errno.ENOTDIR),
    Case(steps.BindMount(b"/no/such", b"/sys/fs/cgroup"), errno.ENOENT),
    Case(steps.BindMount(b"/etc", b"/etc/passwd"), errno.ENOTDIR),
    Case(steps.BindMount(b"/etc/passwd", b"/etc"), errno.EISDIR),
    Case(steps.BindMount(b"/etc", b"/etc/passwd/x"), errno.ENOTDIR),
    Case(steps.MakeDir(b"/dev/null"), errno.EEXIST),
    Case(steps.MakeDir(b"/no/such/dir"), errno.ENOENT),
    Case(steps.Device(b"/etc/null", 1, 3), errno.EROFS),
    Case(steps.Symlink(b"/dev", b"/"), errno.EEXIST),
    Case(steps.ReadOnly(b"/no/such"), errno.ENOENT),
    Case(steps.ReadOnly(b"/etc"), errno.EINVAL),
    Case(steps.Seal(b"/proc/self"), errno.ELOOP),
    Case(steps.Mask(b"/proc/self"), errno.ELOOP),
    Case(steps.Pivot(), errno.EBADF, (steps.Pivot(),)),
    Case(steps.Hostname(b"x" * 65), errno.EINVAL),
    Case(steps.Loopback(), errno.EMFILE, (steps.SetRlimit(resource.RLIMIT_NOFILE, 3, 3),)),
    Case(steps.Workload(), errno.EAGAIN, limits=Limits((Knob("pids.max", "0", "pids"),))),
    Case(steps.CgroupNamespace(), errno.EPERM, (NO_RIGHTS,)),
    Case(steps.Session(), errno.EPERM, (steps.Session(),)),
    Case(steps.OomScore(2000), errno.EINVAL),
    Case(steps.SetRlimit(resource.RLIMIT_NOFILE, 2, 1), errno.EINVAL),
    Case(steps.SetRlimit(resource.RLIMIT_NOFILE, 1 << 40, 1 << 40), errno.EPERM),
    Case(steps.Streams(0, 0), errno.EBADF, (steps.Streams(0, 0),)),
    Case(steps.Bounding(frozenset()), errno.EPERM, (NO_RIGHTS,)),
    Case(steps.Groups((1,)), errno.EPERM, (NO_RIGHTS,)),
    Case(steps.Groups(tuple(range(70_000))), errno.EINVAL),
    Case(steps.User(1, 1), errno.EPERM, (NO_RIGHTS,)),
    Case(steps.Capabilities(frozenset({"chown"})), errno.EPERM, (NO_RIGHTS,)),
    Case(steps.Cwd(b"/no/such"), errno.ENOENT),
    Case(steps.Cwd(b"/etc/passwd"), errno.ENOTDIR),
    Case(steps.Exec((b"/no/such",), (b"such",), ()), errno.ENOENT),
    Case(steps.Exec((b"/etc/passwd",), (b"passwd",), ()), errno.EACCES),
    Case(steps.Exec((b"/etc",), (b"etc",), ()), errno.EACCES),
    Case(steps.Exec((b"/bin/true/x",), (b"x",), ()), errno.ENOENT),
    Case(steps.Exec((b"/bin/true",), (b"true", b"x" * (1 << 18)), ()), errno.E2BIG),
]
# By prctl(2) and umask(2), these two cannot fail; the others have tests of their own below.
CANNOT_FAIL = {steps.NoNewPrivs, steps.Umask}
BELOW = {steps.PrivateMounts, steps.Scheduler}


def identity(case: Case) -> str:
    return f"{type(case.step).__name__}-{errno.errorcode[case.error]}"


def spoilt(plan: Plan, case: Case) -> Plan:
    kinds = [type(step) for step in plan.steps]
    # A kind that only others' jobs have comes first.
    at = kinds.index(type(case.step)) if type(case.step) in kinds else -1
    changed = (*plan.steps[: max(at, 0)], *case.before, case.step, *plan.steps[at + 1 :])
    return replace(plan, blocks=(steps.Block(*changed),))


def end_of(case: Case, monkeypatch: pytest.MonkeyPatch) -> ExitRecord:
    """What becomes of a job whose plan is spoilt so."""

    def compile_spoilt(*arguments: object, **options: object) -> Plan:
        return spoilt(compile_plan(*arguments, **options), case)  # type: ignore[arg-type]

    monkeypatch.setattr(spawn, "compile_plan", compile_spoilt)
    files = (Rlimit(resource.RLIMIT_NOFILE, 1024, 1024),)
    walls = Walls(Program((b"true",), (b"/bin/true",), rlimits=files), Identity(0, 0))
    job = launch(walls, case.limits, f"failing-{os.getpid()}", Streams())
    while job.receive() is not None:
        pass
    record = job.conclude()
    assert record is not None
    return record


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_a_step_that_fails_is_told_with_its_reason(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = end_of(case, monkeypatch)
    assert record.failure is not None
    assert record.failure.step == case.step.describe()
    assert errno.errorcode[record.failure.errno] == errno.errorcode[case.error]
    assert record.failure.is_exec == isinstance(case.step, steps.Exec)
    assert record.started_ns == 0


def test_no_step_is_forgotten() -> None:
    kinds = {kind for kind in vars(steps).values() if isinstance(kind, type)}
    kinds = {kind for kind in kinds if issubclass(kind, Step) and kind is not Step}
    assert {type(case.step) for case in CASES} | CANNOT_FAIL | BELOW == kinds


def test_a_nice_starter_without_the_right_to_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before + 5)
    try:
        record = end_of(Case(steps.Scheduler(), 0, (NO_RIGHTS,)), monkeypatch)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
    assert record.failure is not None
    assert (record.failure.step, record.failure.errno) == (
        steps.Scheduler().describe(),
        errno.EACCES,
    )


def test_a_starter_whose_root_is_no_mount(jobs: Jobs) -> None:
    """A plain chroot: its mounts cannot be kept from the host's."""
    script = """
    mount -t tmpfs none /srv && mkdir /srv/new && cd /srv/new || exit
    for d in /*; do
        if [ -L $d ]; then cp -P $d .; elif [ -d $d ]; then mkdir .$d; mount --rbind $d .$d; fi
    done
    exec chroot . "$@"
    """
    job = jobs.run(["true"], wrapper=["unshare", "--mount", "sh", "-c", script, "sh"])
    assert job.status == 125, job.stderr
    assert job.verdict["setup_failure"] == {
        "step": steps.PrivateMounts().describe(),
        "errno": "EINVAL",
    }


# ---- as the command line tells it


@pytest.fixture
def outside() -> Iterator[Path]:
    with place() as directory:
        yield directory


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("command", ["no-such-command", "/no/such", "./no-such"])
def test_a_command_that_is_not_there(jobs: Jobs, command: str) -> None:
    job = jobs.run([command])
    assert (job.status, job.cause) == (127, "exec")
    assert command.removeprefix("./").encode() in job.stderr
    assert job.verdict["setup_failure"]["errno"] == "ENOENT"


def test_a_command_that_exits_127_by_itself_is_another_thing(jobs: Jobs) -> None:
    job = jobs.run(["sh", "-c", "exit 127"])
    assert (job.status, job.cause, job.verdict["exit_code"]) == (127, "exited", 127)


def test_a_file_that_is_not_executable(jobs: Jobs, outside: Path) -> None:
    job = jobs.run([script(outside / "file", "#!/bin/sh\n", 0o644)])
    assert (job.status, job.cause) == (126, "exec")
    assert b"Permission denied" in job.stderr
    assert b"chmod +x" in job.stderr


def test_a_file_that_is_no_program(jobs: Jobs, outside: Path) -> None:
    job = jobs.run([script(outside / "file", "\0\0\0\0")])
    assert (job.status, job.cause) == (126, "exec")
    assert job.verdict["setup_failure"]["errno"] == "ENOEXEC"


@pytest.mark.parametrize("line", ["#!/no/such/python\n", "#!/no/such/python -I\r\n"])
def test_a_bad_interpreter_is_named(jobs: Jobs, outside: Path, line: str) -> None:
    """The kernel says that the script itself is not there."""
    job = jobs.run([script(outside / "file", line)])
    assert (job.status, job.cause) == (127, "exec")
    assert b"bad interpreter /no/such/python" in job.stderr


def test_a_command_that_its_user_may_not_reach(jobs: Jobs, outside: Path) -> None:
    command = script(outside / "file", "#!/bin/sh\n")
    outside.chmod(0o700)
    job = jobs.run([command], user="nobody")
    assert (job.status, job.cause) == (126, "exec")
    assert job.verdict["setup_failure"]["errno"] == "EACCES"
