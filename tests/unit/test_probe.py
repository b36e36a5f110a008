"""How doctor words what it found, and how a run is refused for what is missing."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from jobsup.isolation import LimitNotEnforceable, controllers, examine
from jobsup.isolation.probe import cgroups, trials, tried
from jobsup.isolation.probe.finding import failed

# ---- the refusal of a run


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a cgroup v2 mount that offers cpu and io; v1 holds memory and pids, and the
    kernel has no cpuset."""
    listed = {"cpu": (0, True), "io": (0, True), "memory": (4, True), "pids": (8, True)}
    monkeypatch.setattr(controllers, "find_mount", lambda: str(tmp_path))
    monkeypatch.setattr(controllers, "_subsystems", lambda: listed)
    file = tmp_path / "cgroup.controllers"
    file.write_text("cpu io\n")
    return file


def refusal(*files: str) -> LimitNotEnforceable:
    with pytest.raises(LimitNotEnforceable) as caught:
        controllers.require(files)
    return caught.value


@pytest.mark.usefixtures("offered")
def test_a_refusal_names_the_first_knob_whose_controller_is_missing_and_all_of_those() -> None:
    error = refusal("cpu.max", "memory.max", "memory.oom.group", "pids.max")
    assert error.knob == "memory.max"
    assert error.message == (
        "memory.max cannot be enforced: cgroup v1 holds the controllers memory, pids"
    )
    assert error.hint is not None
    assert "cgroup_no_v1=all" in error.hint
    assert "./run" in error.hint
    assert "\n" not in error.message + error.hint


@pytest.mark.usefixtures("offered")
def test_a_refusal_tells_each_cause_and_its_remedy() -> None:
    error = refusal("cpuset.cpus", "pids.max")
    assert error.cause == (
        "this kernel does not have the controller cpuset; cgroup v1 holds the controller pids"
    )
    assert error.hint == f"use a kernel with CONFIG_CPUSETS=y; {controllers.UNIFIED}"


def test_nothing_is_refused_where_nothing_is_missing(offered: Path) -> None:
    controllers.require(["cpu.max", "cgroup.freeze", "misc.max"])
    offered.write_text("cpu io memory pids")
    controllers.require(["memory.max", "pids.max"])


@pytest.mark.usefixtures("offered")
def test_a_controller_that_is_there_and_not_given_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controllers, "_subsystems", lambda: {"memory": (0, True)})
    assert "is not given the controller memory" in refusal("memory.max").cause
    monkeypatch.setattr(controllers, "_subsystems", lambda: {"memory": (0, False)})
    assert "booted without the controller memory" in refusal("memory.max").cause


def test_what_keeps_a_group_from_giving_controllers(tmp_path: Path) -> None:
    assert controllers.obstacle(str(tmp_path)) is None  # the root of all has no cgroup.type
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "cgroup.type").write_text("domain\n")
    assert controllers.obstacle(str(tmp_path)) is None
    (tmp_path / "cgroup.procs").write_text("1\n")
    cause, remedy = controllers.obstacle(str(tmp_path)) or ("", "")
    assert cause == f"the cgroup {tmp_path} has processes of its own"
    assert f"mkdir {tmp_path}/init" in remedy
    (tmp_path / "cgroup.type").write_text("domain threaded\n")
    assert (controllers.obstacle(str(tmp_path)) or ("",))[0].endswith("is domain threaded")


# ---- findings


def test_doctor_answers_on_any_host_and_has_a_remedy_for_all_that_is_missing() -> None:
    findings = examine()
    assert len({finding.name for finding in findings}) == len(findings) > 15
    for finding in findings:
        assert finding.found
        assert "\n" not in finding.found + (finding.remedy or "")
        assert (finding.remedy is None) == (finding.ok is True), finding


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.12.117-jobsup-uml", (6, 12)), ("5.14", (5, 14)), ("6.1-rc1+", (6, 1)), ("next", (0, 0))],
)
def test_the_kernels_number(release: str, version: tuple[int, int]) -> None:
    assert cgroups.kernel_version(release) == version


# ---- trials


def test_every_trial_is_told_and_every_telling_was_tried() -> None:
    tried_names = [name for _, group in trials.GROUPS for name in group]
    assert sorted(tried_names) == sorted(question.name for question in tried.QUESTIONS)


def test_only_a_group_in_its_own_mount_namespace_touches_the_root() -> None:
    (namespaces,) = (needs for needs, group in trials.GROUPS if "root mount" in group)
    assert "mnt" in namespaces


def test_a_trial_that_is_killed_is_told_and_takes_what_follows_in_its_group_with_it() -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    told = trials.results(((), {"first": list, "second": die, "third": list}))
    killed = [("killed, as a seccomp filter may do", 0)]
    assert told == {"first": [], "second": killed, "third": killed}


def test_a_failed_call_is_told_by_its_name_and_reason() -> None:
    def fail() -> None:
        raise trials.CallFailed("unshare", errno.ENOSPC)

    assert trials.results(((), {"it": fail})) == {"it": [("unshare", errno.ENOSPC)]}
    assert failed("unshare", errno.ENOSPC) == "unshare: No space left on device"
    assert failed("not tried", 0) == "not tried"
