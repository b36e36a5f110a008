"""What a test may ask of the machine, and what happens when the machine does not have it.

    @pytest.mark.requires("root", "cgroup2")

skips the test, with the reason, where a need is not met. With JOBSUP_MUST_RUN=1 (as CI sets it)
every skip is a failure, whoever asked for it: a suite that quietly tests nothing is worse than a
red one. Each need is probed at most once a session.

Needs of the kernel also mark the test `kernel`, as does lying in tests/kernel, tests/crash
or tests/daemon:
tests/run sends those to the guest where the host cannot run them. What lies in tests/systemd is
marked `systemd`, and what lies in tests/smp `smp`: those have guests of their own.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

MUST_RUN = os.environ.get("JOBSUP_MUST_RUN", "") not in {"", "0"}
CGROUP = Path("/sys/fs/cgroup")
KERNEL_TESTS = tuple(Path(__file__).parent / name for name in ("kernel", "crash", "daemon"))
SYSTEMD_TESTS = Path(__file__).parent / "systemd"
SMP_TESTS = Path(__file__).parent / "smp"

# No database: root would leave it in the checkout. No deadline: in the guest a page fault or a
# fork takes many times what it takes on a host, which says nothing about the code.
settings.register_profile("jobsup", database=None, deadline=None)
settings.load_profile("jobsup")


class Need(NamedTuple):
    """Something a test may require; `missing` returns why it is not there, or None."""

    missing: Callable[[], str | None]
    of_kernel: bool = False


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _controllers(*wanted: str) -> str | None:
    try:
        found = (CGROUP / "cgroup.controllers").read_text().split()
    except OSError:
        return f"no cgroup v2 at {CGROUP}"
    lacking = sorted(set(wanted) - set(found))
    return f"cgroup v2 lacks {', '.join(lacking)}" if lacking else None


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"no {name} in PATH"


def _file(path: str) -> str | None:
    return None if Path(path).exists() else f"no {path}"


def _processors() -> str | None:
    """User-mode Linux has one; one alone has no races between threads."""
    return None if len(os.sched_getaffinity(0)) > 1 else "one processor only"


def _live_jobs() -> str | None:
    """The kernel's tests end every job that they find, so that one failure stays one."""
    names = (path.read_text() for path in Path("/proc").glob("[1-9]*/comm"))
    live = list(names).count("jobsup-init\n")
    return f"{live} jobs run on this host, and would be ended: end them first" if live else None


def _nft_rules() -> str | None:
    """The packaged guest kernel has nf_tables, but not for IPv4; only a try tells."""
    if missing := _program("nft"):
        return missing
    rules = "add table ip jobsup_probe { chain c { type nat hook postrouting priority 100; }; }"
    tried = subprocess.run(
        ["unshare", "--net", "nft", rules], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"nft: {tried.stderr.strip().splitlines()[0]}"


NEEDS = {
    "root": Need(_root),
    "musl": Need(lambda: _program("musl-gcc")),
    "strace": Need(lambda: _program("strace")),
    "qemu": Need(lambda: _program("qemu-system-x86_64")),
    "cgroup2": Need(lambda: _controllers("cpu", "memory", "pids"), of_kernel=True),
    "cgroup-io": Need(lambda: _controllers("io"), of_kernel=True),
    "cgroup-cpuset": Need(lambda: _controllers("cpuset"), of_kernel=True),
    "psi": Need(lambda: _file("/proc/pressure/memory"), of_kernel=True),
    "userns": Need(lambda: _file("/proc/self/ns/user"), of_kernel=True),
    "nft": Need(_nft_rules, of_kernel=True),
    "processors": Need(_processors),
    "systemd": Need(lambda: _file("/run/systemd/system")),
}


@functools.cache
def missing(need: str) -> str | None:
    """Why the machine does not meet this need, or None."""
    return NEEDS[need].missing()


def _needs(item: pytest.Item) -> list[str]:
    needs = [str(need) for mark in item.iter_markers("requires") for need in mark.args]
    if unknown := sorted(set(needs) - NEEDS.keys()):
        raise pytest.UsageError(f"{item.nodeid}: unknown need {unknown}; known: {sorted(NEEDS)}")
    return needs


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        here = any(item.path.is_relative_to(folder) for folder in KERNEL_TESTS)
        if here or any(NEEDS[need].of_kernel for need in _needs(item)):
            item.add_marker("kernel")
        if item.path.is_relative_to(SYSTEMD_TESTS):
            item.add_marker("systemd")
        if item.path.is_relative_to(SMP_TESTS):
            item.add_marker("smp")


def pytest_runtestloop(session: pytest.Session) -> None:
    jobs_matter = any(item.get_closest_marker("kernel") for item in session.items)
    if jobs_matter and not session.config.option.collectonly and (reason := _live_jobs()):
        pytest.exit(reason, returncode=1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons = [reason for need in _needs(item) if (reason := missing(need))]
    if reasons:
        pytest.skip("; ".join(reasons))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module may skip itself too, by importorskip for instance."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is reported as a skip as well, and did run.
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, but JOBSUP_MUST_RUN is set: {reason}"
