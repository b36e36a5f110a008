"""kill -9 of whoever watches a job: the job ends too, nothing is left, and nothing is invented."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kernel.jobs import Jobs, Running, program
from tests.machine import PATIENCE, Leaf, inits, kill, leaves, wait_ended, wait_no_inits


def _start(jobs: Jobs, *command: str) -> tuple[Running, list[int]]:
    """A job that resists, and pidfds of all its processes."""
    running = jobs.start(command or program("term_ignorer"))
    assert running.line()
    return running, [os.pidfd_open(pid) for pid in Leaf.only().processes()]


def _assert_all_ended(pidfds: list[int]) -> None:
    assert pidfds
    for pidfd in pidfds:
        wait_ended(pidfd)
        os.close(pidfd)


def test_when_the_caller_is_killed_its_job_ends_and_nothing_is_left(jobs: Jobs) -> None:
    """With nobody's help: the test only waits."""
    running, processes = _start(jobs)
    init = os.pidfd_open(running.init)
    kill(running.process.pid)
    _assert_all_ended([*processes, init])
    assert leaves() == set()


def test_the_same_when_nobody_reads_what_the_job_wrote(jobs: Jobs) -> None:
    """Its output stands in full pipes, which we hold open: the init must not wait for us."""
    running, processes = _start(jobs, "yes")
    while not _all_sleep():
        assert running.process.poll() is None
    init = os.pidfd_open(running.init)
    kill(running.process.pid)
    _assert_all_ended([*processes, init])
    assert leaves() == set()


def _all_sleep() -> bool:
    """Whether everybody in the job sleeps, as `yes` does only where its pipe is full."""
    states = set()
    for pid in Leaf.only().processes():
        states.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return states == {"S"}


def test_when_an_init_is_killed_how_its_job_ended_is_not_known(jobs: Jobs) -> None:
    running, processes = _start(jobs)
    kill(running.init)
    ended = running.end()
    _assert_all_ended(processes)
    verdict = ended.verdict
    assert (ended.status, ended.cause, verdict["state"]) == (125, "init-lost", "lost")
    assert (verdict["exit_code"], verdict["signal"]) == (None, None)
    unknown = {**verdict["usage"], **verdict["events"], **verdict["output"]}
    assert set(unknown.values()) == {None}
    assert ended.stderr.startswith(b"jobsup: the init of the job was lost: how python")
    assert ended.stderr.endswith(b" ended is not known\n")
    assert leaves() == set()


def test_what_the_job_wrote_before_its_init_was_killed_is_there(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo one; echo two; exec sleep 1000"])
    assert (running.line(), running.line()) == ("one", "two")
    kill(running.init)
    assert running.end().cause == "init-lost"


def test_when_both_are_killed_the_next_run_sweeps_what_is_left(jobs: Jobs) -> None:
    running, processes = _start(jobs)
    left = leaves()
    running.signal(signal.SIGSTOP)  # or it would clear up after its init
    kill(running.init)
    kill(running.process.pid)
    _assert_all_ended(processes)
    running.process.wait(PATIENCE)
    assert leaves() == left
    assert jobs.run(["true"]).status == 0
    assert leaves() == set()


def test_a_sweep_leaves_jobs_alone_that_run(jobs: Jobs) -> None:
    running, processes = _start(jobs)
    assert jobs.run(["true"]).status == 0
    assert len(leaves()) == 1
    running.signal(signal.SIGINT)
    assert running.process.poll() is None
    kill(running.process.pid)
    _assert_all_ended(processes)


def test_a_caller_that_is_stopped_finds_its_verdict_when_it_goes_on(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo ready; kill -STOP $$; exit 11"])
    assert running.line() == "ready"
    init = os.pidfd_open(running.init)
    running.signal(signal.SIGSTOP)
    (pid,) = Leaf.only().processes()
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        pass  # it says that it is ready before it stops itself
    os.kill(pid, signal.SIGCONT)
    wait_ended(init)
    assert leaves() == set()
    running.signal(signal.SIGCONT)
    assert running.end().status == 11


@pytest.mark.parametrize("whom", ["caller", "init"])
def test_a_kill_at_any_moment_leaves_nothing(jobs: Jobs, whom: str) -> None:
    """From the start of Python to the end of the job. What the caller had only just made, before
    there was an init to remove it, the next run removes."""
    moments = random.Random(whom)
    for _ in range(8):
        running = jobs.start(["sh", "-c", "sleep 0.05; exit 3"])
        if whom == "caller":
            time.sleep(moments.uniform(0.2, 1.0))
            running.process.kill()
        else:
            while running.process.poll() is None and not leaves():
                pass
            time.sleep(moments.uniform(0, 0.2))
            for pid in inits():
                with suppress(ProcessLookupError):
                    kill(pid)
        ended = running.end()
        wait_no_inits()
        assert ended.status in {3, 125, -signal.SIGKILL}
        if ended.status == 125:
            assert ended.cause == "init-lost"
    assert jobs.run(["true"]).status == 0
    assert leaves() == set()
