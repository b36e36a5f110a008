"""A paused job does nothing, its time stands still, and it can be ended like any other."""

from __future__ import annotations

import os
import signal
import subprocess

from jobsup.isolation import EndedBy, Job, Watch
from tests.kernel.kept import GOES_ON, Keeper, end_of, is_silent, status_of, walls
from tests.kernel.resting import wait_resting
from tests.machine import Leaf, kill

RESISTS = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def started(keeper: Keeper, script: str, watch: Watch | None = None) -> Job:
    job = keeper.launch(walls(script, watch))
    assert status_of(job).started_ns
    keeper.wait_output(b"ready\n")
    return job


def paused(keeper: Keeper, script: str, watch: Watch | None = None) -> Job:
    job = started(keeper, script, watch)
    job.pause()
    assert status_of(job).paused
    return job


def wait(seconds: float) -> None:
    subprocess.run(["sleep", str(seconds)], check=True)


def test_a_paused_job_does_nothing_until_it_is_resumed(keeper: Keeper) -> None:
    job = paused(keeper, "echo ready; while :; do echo x; done")
    leaf = Leaf.of(keeper.name)
    assert leaf.value("cgroup.events", "frozen") == 1
    before = leaf.value("cpu.stat", "usage_usec"), (keeper.directory / "stdout").stat().st_size
    wait(0.3)
    used = leaf.value("cpu.stat", "usage_usec")
    assert used == before[0]
    job.resume()
    assert not status_of(job).paused
    while (keeper.directory / "stdout").stat().st_size == before[1]:
        pass
    job.kill()
    end_of(job)


def test_wall_time_stands_still_while_it_is_paused(keeper: Keeper) -> None:
    job = paused(keeper, RESISTS, Watch(wall_ms=2000, grace_ms=0))
    assert is_silent(job, 2.2)
    job.resume()
    assert not status_of(job).ending
    assert status_of(job).ending is EndedBy.WALL_TIME
    record = end_of(job)
    assert record.ended_by is EndedBy.WALL_TIME
    assert record.wall_ns >= 4_100_000_000


def test_wall_time_goes_on_where_it_stood(keeper: Keeper) -> None:
    """However often it is paused: each time a part of the second is used."""
    job = started(keeper, RESISTS, Watch(wall_ms=1000, grace_ms=0))
    rounds = 0
    while True:
        rounds += 1
        job.pause()
        said = status_of(job)
        job.resume()
        if said.paused and not said.ending:
            said = status_of(job)
        if said.ending or not is_silent(job, 0.1):
            break
    assert rounds < 12
    assert end_of(job).ended_by is EndedBy.WALL_TIME


def test_a_paused_job_wakes_nobody_for_its_processor_time(keeper: Keeper) -> None:
    job = paused(keeper, "echo ready; while :; do :; done", Watch(cpu_usec=600_000))
    wait_resting(job.pid, seconds=0.5)
    job.resume()
    assert end_of(job).ended_by is EndedBy.CPU_TIME


def test_a_stop_lets_a_paused_job_answer(keeper: Keeper) -> None:
    job = paused(keeper, GOES_ON)
    job.stop(signal.SIGTERM, 3_600_000)
    record = end_of(job)
    assert record.ended_by is EndedBy.STOP
    assert os.waitstatus_to_exitcode(record.wait_status or 0) == 0
    assert (keeper.directory / "stdout").read_bytes() == b"ready\nbye\n"


def test_a_stop_that_a_paused_job_does_not_obey(keeper: Keeper) -> None:
    job = paused(keeper, RESISTS)
    job.stop(signal.SIGTERM, 200)
    record = end_of(job)
    assert (record.ended_by, os.WTERMSIG(record.wait_status or 0)) == (EndedBy.STOP, 9)


def test_a_kill_of_a_paused_job(keeper: Keeper) -> None:
    job = paused(keeper, RESISTS)
    job.kill()
    record = end_of(job)
    assert (record.ended_by, os.WTERMSIG(record.wait_status or 0)) == (EndedBy.KILL, 9)


def test_a_signal_waits_for_a_paused_job(keeper: Keeper) -> None:
    job = paused(keeper, GOES_ON)
    job.signal(signal.SIGTERM)
    assert is_silent(job, 0.2)
    job.resume()
    assert os.waitstatus_to_exitcode(end_of(job).wait_status or 0) == 0


def test_a_paused_job_that_somebody_else_kills(keeper: Keeper) -> None:
    job = paused(keeper, "echo ready; exec sleep 1000")
    (pid,) = Leaf.of(keeper.name).processes()
    kill(pid)
    record = end_of(job)
    assert (record.ended_by, os.WTERMSIG(record.wait_status or 0)) == (EndedBy.NOTHING, 9)


def test_a_job_that_is_being_stopped_is_not_paused(keeper: Keeper) -> None:
    job = started(keeper, RESISTS)
    job.stop(signal.SIGTERM, 3_600_000)
    assert status_of(job).ending is EndedBy.STOP
    job.pause()
    assert is_silent(job, 0.2)
    job.kill()
    assert end_of(job).ended_by is EndedBy.STOP


def test_who_takes_charge_of_a_paused_job_is_told_so(keeper: Keeper) -> None:
    first = paused(keeper, GOES_ON)
    job = keeper.adopt()
    assert status_of(job).paused
    job.resume()
    assert not status_of(job).paused
    job.stop(signal.SIGTERM, 3_600_000)
    assert end_of(job).ended_by is EndedBy.STOP
    first.conclude()


def test_an_init_that_is_lost_takes_its_paused_job_with_it(keeper: Keeper) -> None:
    job = paused(keeper, RESISTS)
    assert job.pid
    kill(job.pid)
    assert job.receive() is None
    assert job.conclude() is None


def test_pausing_twice_is_pausing_once(keeper: Keeper) -> None:
    job = paused(keeper, GOES_ON)
    job.pause()
    job.resume()
    assert not status_of(job).paused
    job.resume()
    assert is_silent(job, 0.1)
    job.kill()
    end_of(job)
