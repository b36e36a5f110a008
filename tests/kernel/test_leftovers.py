"""Nothing survives its job, however many there are, and however it ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import jobsup
from jobsup.isolation import LaunchFailed, open_hierarchy
from tests.kernel.jobs import Jobs, here, program, run_here
from tests.kernel.timed import run_timed
from tests.machine import PATIENCE, inits, leaves, processes


def _numbered() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _processes() -> set[str]:
    return {f"{pid} {command}" for pid, command in processes(zombies=True).items()}


def _namespaces() -> set[str]:
    """Every namespace that a process is in, or holds a descriptor or a mount of."""
    found = set()
    for process in _numbered():
        with suppress(OSError):
            links = map(_link, [*(process / "ns").iterdir(), *(process / "fd").iterdir()])
            found |= {link for link in links if ":[4" in link}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return found | {mount for mount in mounts if " nsfs " in mount}


def _link(entry: Path) -> str:
    with suppress(OSError):
        return os.readlink(entry)
    return ""


def _descriptors() -> set[str]:
    open_now = {entry.name: _link(entry) for entry in Path("/proc/self/fd").iterdir()}
    return {f"{number} {link}" for number, link in open_now.items() if link}


def _cgroups() -> set[str]:
    return {path for path, _, _ in os.walk(open_hierarchy().mount)}


def _files() -> set[str]:
    """What lies where jobsup could leave files."""
    found = set()
    for root in ("/run", "/var/lib/jobsup", "/dev/shm", "/tmp"):
        for path, directories, files in os.walk(root):
            found |= {f"{path}/{name}" for name in directories + files}
    return found


WHAT = {
    "processes": _processes,
    "namespaces": _namespaces,
    "descriptors": _descriptors,
    "cgroups": _cgroups,
    "files": _files,
}


@pytest.fixture
def unchanged() -> Iterator[None]:
    """What was there before the test is there after it, and nothing else. A first job makes what
    is made once: the groups of the hierarchy, the init's program, the hidden directories."""
    run_here(["true"])
    before = {name: look() for name, look in WHAT.items()}
    yield
    after = {name: look() for name, look in WHAT.items()}
    for name in WHAT:
        assert after[name] - before[name] == set(), f"{name} are left"


@pytest.mark.usefixtures("unchanged")
def test_after_200_jobs_in_a_row() -> None:
    ends: list[tuple[list[str], dict[str, Any], str]] = [
        (["true"], {}, "exited"),
        (["false"], {"mem": "32M"}, "exited"),
        (["sh", "-c", "kill -SEGV $$"], {}, "signaled"),
        (["no-such-command"], {}, "exec"),
        (["sh", "-c", "sleep 100 & sleep 100 & exit 3"], {"pids": 10}, "exited"),
        (["sleep", "100"], {"time": "20ms", "grace": 0}, "timeout"),
        (["yes"], {"output_max": "64K", "output_full": "kill"}, "output"),
    ]
    for turn in range(200):
        argv, options, cause = ends[turn % len(ends)]
        verdict, _, _ = run_here(argv, **options)
        assert verdict.cause == cause


@pytest.mark.usefixtures("unchanged")
def test_after_20_jobs_at_once(jobs: Jobs) -> None:
    script = ["sh", "-c", "echo ready; read line; echo $line; exit 3"]
    running = [jobs.start(script, stdin=subprocess.PIPE) for _ in range(20)]
    for job in running:
        assert job.line() == "ready"
    assert len(leaves()) == len(inits()) == 20
    for number, job in enumerate(running):
        job.stdin.write(b"%d\n" % number)
    for number, job in enumerate(running):
        assert job.line() == str(number)
        job.stdin.close()
        assert job.process.wait(PATIENCE) == 3
        job.close()
        job.report.unlink()


@pytest.mark.usefixtures("unchanged")
def test_after_50_jobs_at_once_of_one_process() -> None:
    with ExitStack() as stack:
        launched = [stack.enter_context(here(["cat"], input=b"%d" % n)) for n in range(50)]
        assert len(leaves()) == 50
        for number, job in enumerate(launched):
            verdict, stdout, _ = job.end()
            assert (verdict.cause, stdout) == ("exited", b"%d" % number)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
def test_after_jobs_that_were_given_up_at_any_moment(delay: float) -> None:
    for _ in range(8):
        with here(program("term_ignorer")):
            time.sleep(delay)
            given_up = time.monotonic()
        # An init and a starter that wait for each other do so for a minute.
        assert time.monotonic() - given_up < 30


@pytest.mark.usefixtures("unchanged")
def test_after_jobs_that_could_not_start() -> None:
    for options in (
        {"ro": ["/nowhere"]},
        {"cgroup": "memory.max=lots"},
        {"io_max": "/proc:wbps=1"},
    ):
        with pytest.raises(jobsup.JobsupError):
            run_here(["true"], **options)
    for argv, cause in ((["/nowhere/command"], "exec"), (["/etc"], "exec")):
        assert run_here(argv)[0].cause == cause


@pytest.mark.usefixtures("unchanged")
def test_after_an_init_that_could_not_be_started() -> None:
    """No pid is left for an init: the cgroup that was made for its job goes too."""
    limit = Path(open_hierarchy().inits, "pids.max")
    before = limit.read_text()
    limit.write_text("0")
    try:
        with pytest.raises(LaunchFailed, match="clone3 of the init"):
            run_here(["true"])
    finally:
        limit.write_text(before)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("end", ["time", "exit"])
def test_after_a_tree_that_resists(end: str) -> None:
    """Double-forked, in sessions of its own, stopped, deaf to every signal."""
    ignorer, daemon = (
        " ".join(program(*name)) for name in (("term_ignorer",), ("daemon", "quiet"))
    )
    last = {"time": ignorer, "exit": "exit"}[end]
    script = f"{daemon}; ({ignorer} &) | read ready; (setsid sh -c 'kill -STOP $$') & {last}"
    if end == "exit":
        verdict, _, _ = run_here(["sh", "-c", script])
        assert verdict.cause == "exited"
    else:
        verdict, _, _ = run_timed(["sh", "-c", script], b"daemon started\nready\n", grace="100ms")
        assert verdict.cause == "timeout"


def test_orphans_are_reaped_while_the_job_runs() -> None:
    verdict, stdout, _ = run_here(program("orphan_maker", 100), pids=20)
    assert (stdout, verdict.events["pids_max"]) == (b"1\n", 0)
