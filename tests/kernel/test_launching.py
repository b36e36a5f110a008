"""Launches by several threads of one process at once, and by one that dies at each of its steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobsup.isolation import ExitRecord, Knob, Limits, open_hierarchy, sweep
from jobsup.isolation.spawn import init_program
from tests.kernel.jobs import PROGRAMS
from tests.kernel.kept import Keeper, end_of, walls
from tests.machine import REPO, leaves, wait_no_inits

LOW = 1 << 20


def test_several_threads_launch_and_conclude_at_once(tmp_path: Path) -> None:
    """With what they share: the groups, the locks, what is protected, the init's program."""
    ends: list[ExitRecord] = []
    init_program()  # made once a process
    before = os.getcwd(), os.umask(0o027), len(os.listdir("/proc/self/fd"))

    def launch_some(number: int) -> None:
        knobs = [Knob("pids.max", "64", "pids"), Knob("memory.low", str(LOW), "mem_low")]
        for turn in range(6):
            directory = tmp_path / f"{number}-{turn}"
            directory.mkdir()
            keeper = Keeper(directory, f"thread-{number}-{turn}")
            limits = Limits(tuple(knobs[: 1 + number % 2]))
            ends.append(end_of(keeper.launch(walls(f"exit {number}"), limits)))

    threads = [threading.Thread(target=launch_some, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(os.waitstatus_to_exitcode(end.wait_status or 0) for end in ends)
    assert codes == sorted(list(range(6)) * 6)
    for group in (open_hierarchy().base, open_hierarchy().jobs):
        assert Path(group, "memory.low").read_text() == "0\n"
    after = os.getcwd(), os.umask(before[1]), len(os.listdir("/proc/self/fd"))
    assert after == (before[0], 0o027, before[2])


def die_at(keeper: Keeper, point: str, script: str) -> None:
    """A process that launches the script, and is killed at the point."""
    program = PROGRAMS / "launch_to_death.py"
    ended = subprocess.run(
        [sys.executable, program, keeper.directory, keeper.name, script],
        env={**os.environ, "JOBSUP_KILL_AT": point, "PYTHONPATH": str(REPO)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, f"{point} was not reached"


@pytest.mark.parametrize("point", ["leaf-made", "leaf-limited"])
def test_one_that_dies_before_the_init_leaves_nothing_but_a_leaf(
    keeper: Keeper, point: str
) -> None:
    die_at(keeper, point, "exit 7")
    assert leaves() == {keeper.name}
    assert not (keeper.directory / "stdout").exists()
    assert keeper.adopt().conclude() is None
    assert leaves() == set()


def test_a_leaf_that_nobody_asks_for_again_is_swept(keeper: Keeper) -> None:
    die_at(keeper, "leaf-limited", "exit 7")
    assert sweep(open_hierarchy()) == [keeper.name]


def test_one_that_dies_after_the_init_was_cloned_has_started_the_job(keeper: Keeper) -> None:
    die_at(keeper, "cloned", "sleep 0.2; exit 7")
    job = keeper.adopt()
    assert job.fileno() >= 0
    assert os.waitstatus_to_exitcode(end_of(job).wait_status or 0) == 7


@pytest.mark.parametrize(
    ("point", "script", "known"),
    [
        ("init-reaped", "exit 7", True),
        ("leaf-cleared", "exec sleep 1000", False),
        ("init-reaped:1", "exec sleep 1000", False),
    ],
)
def test_one_that_dies_while_it_concludes_can_be_followed_by_another(
    keeper: Keeper, point: str, script: str, known: bool
) -> None:
    die_at(keeper, point, script)
    wait_no_inits()
    assert leaves() == set()
    for _ in range(2):  # as often as somebody asks
        record = keeper.adopt().conclude()
        assert (record is not None) == known
