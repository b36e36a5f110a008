"""A memory limit kills the job as a whole, and only a kill for want of memory is called one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsup.isolation import open_hierarchy
from tests.kernel.jobs import Ended, Jobs, here, program, run_here
from tests.machine import Leaf

MIB = 1 << 20
LIMIT = 48 * MIB


def assert_memory_kill(ended: Ended) -> None:
    verdict = ended.verdict
    assert (ended.status, ended.cause, verdict["state"]) == (137, "memory", "failed")
    assert (verdict["exit_code"], verdict["signal"]) == (None, "SIGKILL")
    assert verdict["limits"]["memory.max"] == str(LIMIT)
    assert 0.95 * LIMIT < verdict["usage"]["memory_peak"] <= LIMIT
    # Sampled when the limit was met; with a single processor the kernel may have freed it by then.
    assert 0 < verdict["usage"]["memory"]["anon"] <= LIMIT
    assert verdict["events"]["oom_kill"] >= 1
    assert verdict["message"].startswith("memory limit 48M reached: the kernel killed python")
    assert "peak 4" in verdict["message"]
    assert verdict["hint"] == "--mem 96M"


def test_a_memory_hog_is_killed_and_told_why(jobs: Jobs) -> None:
    ended = jobs.run(program("memory_hog", 4 * LIMIT), mem="48M")
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"jobsup: memory limit 48M reached: the kernel killed python")
    assert ended.stderr.endswith(b"; try --mem 96M\n")
    assert ended.stderr.count(b"\n") == 1
    assert_memory_kill(ended)


def test_with_a_hog_far_down_the_whole_tree_is_killed(jobs: Jobs) -> None:
    ended = jobs.run(program("memory_hog", 4 * LIMIT, 3), mem="48M")
    assert ended.stdout == b""  # nobody survived to tell of it
    assert_memory_kill(ended)
    assert ended.verdict["events"]["oom_group_kill"] == 1


def test_a_job_within_its_limit_is_left_alone(jobs: Jobs) -> None:
    ended = jobs.run(program("memory_hog", LIMIT // 2), mem="48M")
    assert (ended.status, ended.stdout, ended.stderr) == (0, b"had all of it\n", b"")
    assert LIMIT // 2 < ended.verdict["usage"]["memory_peak"] < LIMIT
    assert ended.verdict["events"]["oom_kill"] == 0


def test_without_oom_group_the_rest_lives_and_the_kill_is_told(jobs: Jobs) -> None:
    ended = jobs.run(program("memory_hog", 4 * LIMIT, 1), mem="48M", oom_group=False)
    assert ended.stdout == b"survived -9\n"
    assert (ended.status, ended.cause) == (0, "exited")
    assert ended.verdict["events"]["oom_kill"] == 1
    assert ended.verdict["events"]["oom_group_kill"] == 0
    told = "exited with code 0; the kernel killed one of its processes for want of memory"
    assert ended.verdict["message"] == told


def test_without_oom_group_a_hog_that_is_the_job_itself_is_still_a_memory_kill(jobs: Jobs) -> None:
    assert_memory_kill(jobs.run(program("memory_hog", 4 * LIMIT), mem="48M", oom_group=False))


def test_a_kill_from_outside_is_not_called_a_memory_kill(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo ready; exec sleep 1000"], mem="48M")
    assert running.line() == "ready"
    Leaf.only().path.joinpath("cgroup.kill").write_text("1")
    ended = running.end()
    assert (ended.status, ended.cause) == (137, "signaled")
    assert ended.verdict["signal"] == "SIGKILL"
    assert b"which the kernel did not send for want of memory" in ended.stderr


def test_a_kill_by_the_job_itself_is_not_called_a_memory_kill() -> None:
    verdict, _, _ = run_here(["sh", "-c", "kill -KILL $$"], mem="48M")
    assert (verdict.cause, verdict.signal, verdict.status) == ("signaled", "SIGKILL", 137)


def test_a_survived_kill_does_not_make_a_later_signal_a_memory_kill(jobs: Jobs) -> None:
    hog = " ".join(program("memory_hog", 4 * LIMIT))
    ended = jobs.run(["sh", "-c", f"{hog}; kill -TERM $$"], mem="48M", oom_group=False)
    assert (ended.status, ended.cause) == (143, "signaled")


def test_memory_that_runs_out_above_the_job_is_told_apart(jobs: Jobs) -> None:
    ceiling = Path(open_hierarchy().jobs, "memory.max")
    before = ceiling.read_text()
    ceiling.write_text(str(LIMIT))
    try:
        ended = jobs.run(program("memory_hog", 4 * LIMIT), mem="256M")
    finally:
        ceiling.write_text(before)
    assert (ended.status, ended.cause) == (137, "memory-ancestor")
    assert ended.verdict["events"]["oom"] == 0
    assert ended.verdict["message"].startswith("memory ran out above the job: the kernel killed")
    assert "its own limit 256M was not reached" in ended.verdict["message"]


def test_what_a_job_puts_into_its_tmp_counts_against_its_limit(jobs: Jobs) -> None:
    script = "head -c 200M /dev/zero > /tmp/file; echo survived"
    ended = jobs.run(["sh", "-c", script], mem="48M")
    assert (ended.status, ended.cause, ended.stdout) == (137, "memory", b"")
    assert ended.verdict["usage"]["memory"]["shmem"] > 0.8 * LIMIT


def test_the_init_is_not_in_the_leaf_neither_charged_to_the_job_nor_killed_with_it() -> None:
    with here(["cat"], mem="48M") as job:
        job.wait_started()
        assert job.handle.pid not in Leaf.of(job.id).processes()
        assert len(Leaf.of(job.id).processes()) == 1


@pytest.mark.parametrize("mem", ["1M", 4096])
def test_a_limit_too_small_for_any_program_is_a_memory_kill_or_runs(
    jobs: Jobs, mem: str | int
) -> None:
    ended = jobs.run(["true"], mem=mem)
    assert ended.cause in {"exited", "memory"}
    assert ended.status == (0 if ended.cause == "exited" else 137)
