"""How long a job was paused is told with its end: its own clocks stood still meanwhile."""

from __future__ import annotations

import time

from jobsup.isolation import EndedBy, Watch
from tests.kernel.kept import Keeper, end_of, is_silent, status_of, walls

RESISTS = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def test_the_record_tells_the_pauses_apart(keeper: Keeper) -> None:
    job = keeper.launch(walls(RESISTS, Watch(wall_ms=1000, grace_ms=0)))
    assert status_of(job).started_ns
    keeper.wait_output(b"ready\n")
    paused, began = 0.0, time.monotonic()
    for _ in range(2):
        job.pause()
        assert status_of(job).paused
        since = time.monotonic()
        assert is_silent(job, 0.5)
        paused += time.monotonic() - since
        job.resume()
        assert not status_of(job).paused
    record = end_of(job)
    assert record.ended_by is EndedBy.WALL_TIME
    assert paused * 1000 - 2 <= record.paused_ms <= (time.monotonic() - began) * 1000 - 900
    assert record.wall_ns / 1e6 - record.paused_ms >= 990


def test_a_job_that_ends_while_it_is_paused_was_paused_to_the_end(keeper: Keeper) -> None:
    job = keeper.launch(walls(RESISTS))
    assert status_of(job).started_ns
    job.pause()
    assert status_of(job).paused
    assert is_silent(job, 0.3)
    job.kill()
    assert end_of(job).paused_ms >= 298


def test_who_was_never_paused_was_not(keeper: Keeper) -> None:
    job = keeper.launch(walls("true"))
    assert status_of(job).started_ns
    assert end_of(job).paused_ms == 0
