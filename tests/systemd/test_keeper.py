"""The keeper: jobs live in a delegated cgroup of its own, installed or not, daemon or not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.jobs import Jobs, Running, program
from tests.machine import Leaf
from tests.systemd.manager import KEEPER, KEEPER_GROUP, show, shown, systemctl

KNOBS = "memory.max memory.swap.max memory.oom.group cpu.max cpu.weight pids.max".split()
ALIKE = "Delegate Type OOMPolicy OOMScoreAdjust TasksMax KillMode Slice Restart".split()


def sleeper(jobs: Jobs, **options: Any) -> Running:  # noqa: ANN401 - those of Spec
    """A job that says so when it runs, and then waits for its stdin to end."""
    running = jobs.start(["sh", "-c", "echo up; exec cat"], stdin=subprocess.PIPE, **options)
    assert running.line() == "up"
    return running


def finish(running: Running) -> None:
    """It was alive and well to the end."""
    ended = running.process.communicate(b"still here", timeout=60)
    assert (running.process.returncode, ended[0]) == (0, b"still here"), ended[1]


def test_a_transient_unit_serves_as_the_installed_one_does(
    jobs: Jobs, request: pytest.FixtureRequest
) -> None:
    running = sleeper(jobs)
    assert shown(KEEPER, "FragmentPath") == f"/run/systemd/transient/{KEEPER}"
    assert Leaf.only().path.is_relative_to(KEEPER_GROUP)
    transient = show(KEEPER, *ALIKE)
    finish(running)
    systemctl("stop", KEEPER)

    request.getfixturevalue("units")
    running = sleeper(jobs)
    assert shown(KEEPER, "FragmentPath") == f"/etc/systemd/system/{KEEPER}"
    assert show(KEEPER, *ALIKE) == transient
    finish(running)


def test_one_job_out_of_memory_is_not_the_end_of_the_others(units: None, jobs: Jobs) -> None:
    """systemd watches the whole tree for OOM kills, and its default is to stop the unit."""
    neighbour = sleeper(jobs)
    assert jobs.run(program("memory_hog", 64 << 20), mem="32M").cause == "memory"
    systemctl("daemon-reload")  # systemd has by then handled what it was told before
    assert shown(KEEPER, "ActiveState") == "active"
    finish(neighbour)


@pytest.mark.parametrize("command", ["daemon-reload", "daemon-reexec"])
def test_limits_survive_systemds_own_changes(units: None, jobs: Jobs, command: str) -> None:
    running = sleeper(jobs, mem="64M", cpus="0.5", cpu_weight=50, pids=7)
    leaf = Leaf.only()
    before = {knob: leaf.read(knob) for knob in KNOBS}
    assert (before["memory.max"], before["pids.max"]) == (str(64 << 20), "7")
    systemctl(command)
    assert {knob: leaf.read(knob) for knob in KNOBS} == before
    finish(running)


def test_stopping_the_keeper_ends_every_job(units: None, jobs: Jobs) -> None:
    running = sleeper(jobs)
    systemctl("stop", KEEPER)
    ended = running.end()
    assert (ended.cause, ended.verdict["signal"]) == ("signaled", "SIGTERM")
    assert not KEEPER_GROUP.exists(), "whoever ran the job started the keeper again"


def test_the_next_job_starts_it_again(units: None, jobs: Jobs) -> None:
    assert jobs.run(["true"]).status == 0
    systemctl("stop", KEEPER)
    assert jobs.run(["true"]).status == 0
    assert Path(KEEPER_GROUP, "jobs").is_dir()
