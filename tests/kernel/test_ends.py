"""Every end is what it was: exit codes, signals, limits of time and output, requests to stop."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.jobs import Jobs, here, program, run_here
from tests.kernel.timed import run_timed

IGNORES = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
OBEYS = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"]


@pytest.mark.parametrize("code", [0, 1, 42, 125, 137, 255])
def test_an_exit_code_is_the_jobs_own(code: int) -> None:
    verdict, _, _ = run_here(["sh", "-c", f"exit {code}"])
    assert (verdict.cause, verdict.exit_code, verdict.signal) == ("exited", code, None)
    assert verdict.status == code
    assert verdict.state == ("completed" if code == 0 else "failed")


@pytest.mark.parametrize("name", "HUP INT QUIT ABRT KILL SEGV PIPE TERM USR1 SYS".split())
def test_a_signal_is_told_by_name_and_as_128_plus_its_number(name: str) -> None:
    verdict, _, _ = run_here(["sh", "-c", f"kill -{name} $$"])
    assert (verdict.cause, verdict.exit_code, verdict.signal) == ("signaled", None, f"SIG{name}")
    assert verdict.status == 128 + signal.Signals[f"SIG{name}"]


def test_exit_137_and_a_kill_stay_different() -> None:
    exited, _, _ = run_here(["sh", "-c", "exit 137"])
    killed, _, _ = run_here(["sh", "-c", "kill -KILL $$"])
    assert (exited.status, killed.status) == (137, 137)
    assert (exited.cause, killed.cause) == ("exited", "signaled")


# ---- wall time


def test_at_its_time_a_job_is_ended_and_told_so(jobs: Jobs) -> None:
    ended = jobs.run(["sleep", "1000"], time="300ms")
    assert (ended.status, ended.cause) == (124, "timeout")
    assert (ended.verdict["signal"], ended.verdict["state"]) == ("SIGTERM", "failed")
    assert ended.verdict["wall_seconds"] >= 0.3
    assert ended.stderr.startswith(b"jobsup: time limit 300ms reached: sleep was ended after ")
    assert ended.stderr.endswith(b"; try --time 600ms\n")


def test_who_answers_the_end_of_time_with_exit_0_still_timed_out() -> None:
    verdict, _, _ = run_timed(OBEYS, b"ready\n")
    assert (verdict.cause, verdict.status, verdict.exit_code) == ("timeout", 124, 0)
    assert verdict.state == "failed"


def test_who_does_not_obey_is_killed_with_everybody_after_the_grace() -> None:
    verdict, _, _ = run_timed(IGNORES, b"ready\n", grace="500ms")
    assert (verdict.cause, verdict.status, verdict.signal) == ("timeout", 124, "SIGKILL")
    assert verdict.wall_seconds is not None
    assert verdict.wall_seconds >= 0.7  # a clock of coarse ticks, read at exec and at the end


def test_without_grace_nobody_is_asked() -> None:
    verdict, _, _ = run_here(["sleep", "1000"], time="300ms", grace=0)
    assert (verdict.cause, verdict.signal) == ("timeout", "SIGKILL")


def test_the_grace_is_cut_short_by_obedience() -> None:
    verdict, _, _ = run_timed(OBEYS, b"ready\n", grace="1h")
    assert (verdict.cause, verdict.exit_code) == ("timeout", 0)
    assert verdict.wall_seconds is not None
    assert verdict.wall_seconds < 3600


def test_a_job_that_ends_in_time_is_not_touched() -> None:
    verdict, _, _ = run_here(["true"], time="1h", cpu_time="1h")
    assert (verdict.cause, verdict.status) == ("exited", 0)


def test_time_passes_for_a_stopped_job_too() -> None:
    verdict, _, _ = run_timed(["sh", "-c", "echo stops; kill -STOP $$"], b"stops\n", grace="100ms")
    assert (verdict.cause, verdict.signal) == ("timeout", "SIGKILL")


# ---- by request


def test_a_stop_that_is_obeyed() -> None:
    with here(OBEYS) as job:
        job.wait_started()
        job.handle.stop(signal.SIGTERM, 3_600_000)
        verdict, _, _ = job.end()
    assert (verdict.cause, verdict.state, verdict.status) == ("stopped", "stopped", 143)


def test_a_stop_that_is_not_obeyed_kills_after_the_grace() -> None:
    with here(program("term_ignorer")) as job:
        job.wait_started()
        assert os.read(job.captures[0]._source, 6) == b"ready\n"
        job.handle.stop(signal.SIGTERM, 200)
        verdict, _, _ = job.end()
    assert (verdict.cause, verdict.status, verdict.signal) == ("stopped", 143, "SIGKILL")


def test_a_stop_with_another_signal() -> None:
    with here(["sleep", "1000"]) as job:
        job.wait_started()
        job.handle.stop(signal.SIGUSR1, 3_600_000)
        verdict, _, _ = job.end()
    assert (verdict.cause, verdict.signal) == ("stopped", "SIGUSR1")


def test_a_kill_by_request_is_told_apart_from_one_from_elsewhere() -> None:
    with here(program("term_ignorer")) as job:
        job.wait_started()
        job.handle.kill()
        verdict, _, _ = job.end()
    assert (verdict.cause, verdict.state, verdict.status) == ("killed", "stopped", 137)


def test_the_first_reason_holds() -> None:
    with here(program("term_ignorer"), time="1h") as job:
        job.wait_started()
        job.handle.stop(signal.SIGTERM, 3_600_000)
        job.handle.kill()
        verdict, _, _ = job.end()
    assert verdict.cause == "stopped"


def test_a_request_before_the_command_is_executed_is_not_lost() -> None:
    with here(["sleep", "1000"]) as job:
        job.handle.stop(signal.SIGTERM, 3_600_000)
        verdict, _, _ = job.end()
    assert (verdict.cause, verdict.status) == ("stopped", 143)


# ---- the output cap


def _flood(stdout: int, stderr: int) -> list[str]:
    return ["sh", "-c", f"head -c {stdout} /dev/zero; head -c {stderr} /dev/zero >&2; exit 3"]


def test_output_beyond_the_cap_is_dropped_and_counted() -> None:
    verdict, stdout, stderr = run_here(_flood(300_000, 50), output_max=200_000)
    assert (verdict.cause, verdict.exit_code) == ("exited", 3)
    assert (len(stdout), len(stderr)) == (200_000, 0)
    expected = {"stdout_bytes": 200_000, "stderr_bytes": 0, "lost_bytes": 100_050, "errno": None}
    assert verdict.output == expected


def test_output_up_to_the_cap_is_all_delivered() -> None:
    verdict, stdout, stderr = run_here(_flood(199_950, 50), output_max=200_000)
    assert (len(stdout), len(stderr)) == (199_950, 50)
    assert verdict.output["lost_bytes"] == 0


@pytest.mark.parametrize("full", ["drop", "kill", "block"])
def test_no_output_at_all_may_be_asked_for(full: str) -> None:
    options: dict[str, Any] = {"output_max": 0, "output_full": full}
    verdict, stdout, stderr = run_here(["true"], **options)
    assert (verdict.cause, verdict.exit_code, stdout, stderr) == ("exited", 0, b"", b"")


def test_output_beyond_the_cap_kills_where_that_is_asked_for() -> None:
    verdict, stdout, _ = run_here(["yes"], output_max="100K", output_full="kill")
    assert (verdict.cause, verdict.status, verdict.signal) == ("output", 137, "SIGKILL")
    assert stdout == b"y\n" * 51200
    assert verdict.message == "output limit 100K reached: yes was killed"
    assert verdict.hint == "--output-max 200K"


def test_output_exactly_at_the_cap_does_not_kill() -> None:
    verdict, stdout, _ = run_here(
        ["head", "-c", "100000", "/dev/zero"], output_max=100_000, output_full="kill"
    )
    assert (verdict.cause, verdict.exit_code, len(stdout)) == ("exited", 0, 100_000)


def test_output_beyond_the_cap_blocks_where_that_is_asked_for() -> None:
    full = b"y\n" * 51200
    verdict, stdout, _ = run_timed(["yes"], full, output_max="100K", output_full="block")
    assert (verdict.cause, verdict.signal) == ("timeout", "SIGTERM")
    assert stdout == full


# ---- the exit record


def test_the_verdict_tells_what_the_job_used(jobs: Jobs, tmp_path: Path) -> None:
    script = "head -c 3M /dev/zero > /tmp/x; head -c 5000 /dev/zero; (exit 1); echo four >&2"
    ended = jobs.run(["sh", "-c", script], mem="64M")
    verdict = ended.verdict
    assert verdict["argv"] == ["sh", "-c", script]
    assert verdict["user"] == "root"
    assert verdict["output"] == {
        "stdout_bytes": 5000,
        "stderr_bytes": 5,
        "lost_bytes": 0,
        "errno": None,
    }
    usage = verdict["usage"]
    assert 3 << 20 <= usage["memory_peak"] <= 64 << 20
    assert usage["pids_peak"] == 2
    assert usage["cpu_user_usec"] + usage["cpu_system_usec"] > 0
    assert usage["cpu_throttled_usec"] == 0
    assert verdict["events"] == {"oom": 0, "oom_kill": 0, "oom_group_kill": 0, "pids_max": 0}
    assert verdict["setup_failure"] is None
    assert verdict["queued_at"] <= verdict["started_at"] <= verdict["ended_at"]
    assert verdict["wall_seconds"] > 0


def test_times_are_the_hosts_in_utc(jobs: Jobs) -> None:
    before = time.time()
    verdict = jobs.run(["true"]).verdict
    stamps = [verdict[f"{what}_at"] for what in ("queued", "started", "ended")]
    assert stamps == sorted(stamps)
    for stamp in stamps:
        assert stamp.endswith("Z")
    first = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    last = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))
    assert first <= stamps[0]
    assert stamps[-1] <= last
