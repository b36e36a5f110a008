"""Processor and process limits hold, whatever the job throws at them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.kernel.jobs import Jobs, here, program, run_here
from tests.machine import Leaf

Clock = Callable[[], int]  # microseconds


def _used(leaf: Leaf) -> Clock:
    """Processor time, by the kernel's count."""
    return lambda: leaf.value("cpu.stat", "usage_usec")


def _passed() -> int:
    return time.monotonic_ns() // 1000


def _rate(clock: Clock, other: Clock, expected: float, tolerance: float) -> float:
    """How much faster one clock goes than the other, over as many seconds as it takes until the
    moments even out in which a busy host holds its guest back."""
    begin = clock(), other()
    for _ in range(6):
        time.sleep(3)
        rate = (clock() - begin[0]) / (other() - begin[1])
        if rate == pytest.approx(expected, rel=tolerance):
            break
    return rate


@pytest.mark.parametrize("cpus", [0.5, 0.2])
def test_spinners_get_what_they_were_given_and_no_more(jobs: Jobs, cpus: float) -> None:
    spinners = jobs.start(program("spinner", 4), cpus=cpus)
    assert spinners.line() == "spinning"
    share = _rate(_used(Leaf.only()), _passed, cpus, 0.05)
    assert share == pytest.approx(cpus, rel=0.05)


def test_a_job_that_was_held_back_says_so() -> None:
    verdict, _, _ = run_here(program("spinner", 2, 1), cpus=0.3)
    assert verdict.usage.cpu_throttled_usec
    assert verdict.usage.cpu_throttled_usec > 100_000


def test_of_two_jobs_the_heavier_gets_its_share_of_a_busy_machine(jobs: Jobs) -> None:
    """With as many spinners each as there are processors, nobody can step aside."""
    spinners = " ".join(program("spinner", len(os.sched_getaffinity(0))))
    script = ["sh", "-c", f"echo $JOBSUP_JOB_ID; exec {spinners}"]
    light, heavy = (jobs.start(script, cpu_weight=weight) for weight in (100, 400))
    much, little = (_used(Leaf.of(job.line())) for job in (heavy, light))
    for job in (light, heavy):
        assert job.line() == "spinning"
    assert _rate(much, little, 4, 0.25) == pytest.approx(4, rel=0.25)


def test_a_fork_bomb_meets_its_limit_and_the_machine_stays_usable(jobs: Jobs) -> None:
    bomb = jobs.start(program("forkbomb"), pids=64, grace="0s", cpus=0.5)
    assert bomb.line() == "bomb"
    leaf = Leaf.only()
    while leaf.value("pids.events", "max") == 0:
        assert bomb.process.poll() is None
    assert int(leaf.read("pids.current")) <= 64
    subprocess.run(["true"], check=True)  # the host still forks
    bomb.signal(signal.SIGTERM)  # of the first process, and with it all go
    ended = bomb.end()
    assert (ended.status, ended.cause) == (143, "signaled")
    assert ended.verdict["usage"]["pids_peak"] == 64
    assert ended.verdict["events"]["pids_max"] > 0
    assert "the pids limit 64 was hit" in ended.verdict["message"]


def test_beyond_its_pids_a_job_is_told_eagain_and_goes_on() -> None:
    verdict, stdout, _ = run_here(program("fork_until", "processes"), pids=16)
    assert stdout == b"15 EAGAIN\n"
    assert (verdict.cause, verdict.exit_code) == ("exited", 0)
    assert verdict.events["pids_max"] == 1
    assert verdict.message == "exited with code 0; the pids limit 16 was hit once"
    assert verdict.hint == "--pids 32"


def test_threads_count_as_processes() -> None:
    verdict, stdout, _ = run_here(program("fork_until", "threads"), pids=16)
    assert stdout == b"15 EAGAIN\n"
    assert verdict.usage.pids_peak == 16


# ---- the budget of CPU time


def test_cpu_time_is_counted_over_all_processes_and_ends_the_job() -> None:
    verdict, _, _ = run_here(program("spinner", 4), cpu_time="1s")
    assert (verdict.cause, verdict.status, verdict.state) == ("cpu-time", 124, "failed")
    assert verdict.hint == "--cpu-time 2s"
    used = (verdict.usage.cpu_user_usec or 0) + (verdict.usage.cpu_system_usec or 0)
    assert 1_000_000 <= used < 1_500_000


def test_sleeping_costs_no_cpu_time() -> None:
    verdict, _, _ = run_here(["sleep", "1.5"], cpu_time="1s")
    assert (verdict.cause, verdict.exit_code) == ("exited", 0)


def test_a_budget_holds_for_a_job_that_is_held_back_too() -> None:
    with here(program("spinner", 2), cpu_time="500ms", cpus=0.5) as job:
        verdict, _, _ = job.end()
    assert verdict.cause == "cpu-time"
    assert verdict.wall_seconds is not None
    assert verdict.wall_seconds > 0.8
