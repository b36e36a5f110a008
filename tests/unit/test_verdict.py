"""Every end is explained, and only by what was recorded."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from jobsup.isolation import EndedBy, ExitRecord, Program, StepFailure
from jobsup.supervisor import failures
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.verdict import Verdict, judge

SECOND = 10**9
START = 1_700_000_000 * SECOND + 123_456_789


def record(wait_status: int | None = 0, by: EndedBy = EndedBy.NOTHING, **facts: Any) -> ExitRecord:  # noqa: ANN401
    times = {"started_ns": START, "ended_ns": START + SECOND, "wall_ns": SECOND}
    return ExitRecord(wait_status, by, **({} if wait_status is None else times) | facts)


def exited(code: int) -> int:
    return code << 8


def memory(oom: int, oom_kill: int, group: int = 0) -> dict[str, str]:
    events = f"low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {oom_kill}\noom_group_kill {group}\n"
    return {"memory.events": events, "memory.peak": "268435456\n"}


def verdict(
    ended: ExitRecord | None,
    limits: dict[str, str] | None = None,
    argv: tuple[str, ...] = ("python3", "hog.py"),
    program: Program | None = None,
    **options: object,
) -> Verdict:
    spec = Spec.make(argv, **options)
    return judge(spec, "id", ended, limits or {}, program=program, user="root")


LIMIT = {"memory.max": "268435456"}


# ---- ends by itself


def test_an_exit_code_is_the_jobs_own() -> None:
    fine, failed = verdict(record(exited(0))), verdict(record(exited(3)))
    assert (fine.state, fine.cause, fine.exit_code, fine.status) == ("completed", "exited", 0, 0)
    assert (failed.state, failed.cause, failed.exit_code, failed.status) == (
        "failed",
        "exited",
        3,
        3,
    )
    assert failed.message == "exited with code 3"
    assert failed.hint is None


def test_exit_code_137_is_no_signal() -> None:
    found = verdict(record(exited(137)))
    assert (found.cause, found.exit_code, found.signal, found.status) == ("exited", 137, None, 137)


def test_a_signal_is_named() -> None:
    found = verdict(record(signal.SIGSEGV | 0x80))
    assert (found.cause, found.signal, found.exit_code, found.status) == (
        "signaled",
        "SIGSEGV",
        None,
        139,
    )
    assert found.message == "python3 was ended by SIGSEGV and dumped core"
    assert verdict(record(int(signal.SIGRTMIN) + 5)).signal == "SIGRTMIN+5"


# ---- memory


def test_the_jobs_own_limit() -> None:
    found = verdict(record(signal.SIGKILL, counters=memory(1, 3, 1)), LIMIT, mem="256M")
    assert (found.cause, found.state, found.status) == ("memory", "failed", 137)
    assert (found.signal, found.exit_code) == ("SIGKILL", None)
    assert found.message == "memory limit 256M reached: the kernel killed python3, peak 256.0M"
    assert found.hint == "--mem 512M"
    assert found.events == {"oom": 1, "oom_kill": 3, "oom_group_kill": 1, "pids_max": None}


def test_a_group_that_was_killed_is_a_memory_kill_however_the_main_process_ended() -> None:
    assert verdict(record(exited(1), counters=memory(1, 2, 1)), LIMIT).cause == "memory"


def test_an_older_kernel_that_counts_no_group_kills() -> None:
    counters = {"memory.events": "oom 1\noom_kill 2\n"}
    found = verdict(record(signal.SIGKILL, counters=counters), LIMIT)
    assert (found.cause, found.events["oom_group_kill"]) == ("memory", None)
    assert "peak" not in found.message
    assert found.usage.memory_peak is None


def test_an_outside_sigkill_is_not_a_memory_kill() -> None:
    found = verdict(record(signal.SIGKILL, counters=memory(0, 0)), LIMIT)
    assert (found.cause, found.status) == ("signaled", 137)
    assert "did not send for want of memory" in found.message


def test_meeting_the_limit_without_a_kill_is_not_a_memory_kill() -> None:
    assert verdict(record(signal.SIGKILL, counters=memory(5, 0)), LIMIT).cause == "signaled"


def test_where_nothing_is_counted_nothing_is_claimed() -> None:
    found = verdict(record(signal.SIGKILL))
    assert found.cause == "signaled"
    assert found.message == "python3 was ended by SIGKILL"


def test_a_kill_decided_above_the_leaf() -> None:
    found = verdict(record(signal.SIGKILL, counters=memory(0, 1)), LIMIT)
    assert (found.cause, found.status) == ("memory-ancestor", 137)
    assert "its own limit 256M was not reached" in found.message


def test_a_child_that_was_killed_while_the_job_went_on_is_told() -> None:
    found = verdict(record(exited(1), counters=memory(1, 1)), LIMIT, oom_group=False)
    assert (found.cause, found.status) == ("exited", 1)
    assert "killed one of its processes for want of memory" in found.message
    assert found.hint == "--mem 512M"


# ---- ended by the init


@pytest.mark.parametrize(
    ("by", "cause", "state", "status", "error"),
    [
        (EndedBy.WALL_TIME, "timeout", "failed", 124, failures.TimedOut),
        (EndedBy.CPU_TIME, "cpu-time", "failed", 124, failures.CpuTimeSpent),
        (EndedBy.OUTPUT, "output", "failed", 137, failures.OutputLimitReached),
        (EndedBy.STOP, "stopped", "stopped", 143, failures.Stopped),
        (EndedBy.KILL, "killed", "stopped", 137, failures.Killed),
        (EndedBy.PEER_LOST, "killed", "stopped", 137, failures.Killed),
    ],
)
@pytest.mark.parametrize("wait_status", [0, exited(3), signal.SIGTERM, signal.SIGKILL])
def test_no_cause_but_exited_yields_the_jobs_own_code(
    by: EndedBy, cause: str, state: str, status: int, error: type, wait_status: int
) -> None:
    found = verdict(record(wait_status, by))
    assert (found.cause, found.state, found.status) == (cause, state, status)
    assert type(failures.failure_of(found)) is error
    assert found.exit_code == (None if wait_status in (15, 9) else wait_status >> 8)


def test_the_limits_that_ended_a_job_are_named_and_doubled() -> None:
    found = verdict(record(9, EndedBy.WALL_TIME, wall_ns=10 * SECOND), time="10s")
    assert found.message == "time limit 10s reached: python3 was ended after 10.0s"
    assert found.hint == "--time 20s"
    stood = record(9, EndedBy.WALL_TIME, wall_ns=13 * SECOND, paused_ms=3000)
    assert verdict(stood, time="10s").message == (
        "time limit 10s reached: python3 was ended after 13.0s, of which it was paused for 3.0s"
    )
    found = verdict(record(9, EndedBy.CPU_TIME), cpu_time="5s")
    assert (found.message, found.hint) == (
        "CPU time budget 5s used up: python3 was ended",
        "--cpu-time 10s",
    )
    found = verdict(record(9, EndedBy.OUTPUT), output_max="10M")
    assert (found.message, found.hint) == (
        "output limit 10M reached: python3 was killed",
        "--output-max 20M",
    )


def test_a_caller_that_is_gone_is_told_from_a_request() -> None:
    assert "gone" in verdict(record(9, EndedBy.PEER_LOST)).message
    assert "on request" in verdict(record(9, EndedBy.KILL)).message


def test_a_pids_limit_that_was_hit_is_told_whatever_the_end() -> None:
    counters = {"pids.events": "max 7\n"}
    found = verdict(record(exited(1), counters=counters), {"pids.max": "64"}, pids=64)
    assert found.message == "exited with code 1; the pids limit 64 was hit 7 times"
    assert (found.cause, found.hint, found.events["pids_max"]) == ("exited", "--pids 128", 7)
    timed = verdict(record(9, EndedBy.WALL_TIME, counters=counters), time="1s", pids=64)
    assert "the pids limit 64 was hit 7 times" in timed.message


# ---- unknown ends


def test_a_lost_init_is_never_guessed_about() -> None:
    found = verdict(None, LIMIT)
    assert (found.cause, found.state, found.status) == ("init-lost", "lost", 125)
    assert (found.exit_code, found.signal, found.wall_seconds) == (None, None, None)
    assert set(found.output.values()) == {None}
    assert set(found.events.values()) == {None}
    assert isinstance(failures.failure_of(found), failures.Lost)


# ---- jobs that did not start


def failed(errno: int, *, interpreter: bool = False) -> ExitRecord:
    return record(None, failure=StepFailure("execute", errno, True, interpreter))


def test_a_wall_that_could_not_be_built() -> None:
    found = verdict(record(None, failure=StepFailure("mount tmpfs on /tmp", 28)))
    assert (found.cause, found.state, found.status) == ("setup", "failed", 125)
    assert found.message == "mount tmpfs on /tmp: No space left on device"
    assert found.setup_failure == {"step": "mount tmpfs on /tmp", "errno": "ENOSPC"}
    assert (found.exit_code, found.started_at, found.wall_seconds) == (None, None, None)


@pytest.mark.parametrize(
    ("errno", "interpreter", "status"),
    [
        (2, False, 127),
        (20, False, 127),
        (2, True, 127),
        (13, False, 126),
        (8, False, 126),
        (7, False, 126),
    ],
)
def test_what_cannot_be_executed_is_told_from_what_is_not_there(
    errno: int, interpreter: bool, status: int
) -> None:
    found = verdict(failed(errno, interpreter=interpreter))
    assert (found.cause, found.status, found.exit_code) == ("exec", status, None)
    assert isinstance(failures.failure_of(found), failures.ExecFailed)


def program(path: Path, name: str) -> Program:
    return Program((name.encode(),), (bytes(path / name),), ((b"PATH", bytes(path)),))


def test_a_command_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "python3").touch()
    found = verdict(failed(2), argv=("pyhton3",), program=program(tmp_path, "pyhton3"))
    assert found.message == f"pyhton3: no such command on the job's PATH ({tmp_path})"
    assert found.hint == "python3"


def test_a_command_of_the_working_directory_wants_its_dot(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    elsewhere = program(Path("/nonexistent"), "mine")
    found = verdict(failed(2), argv=("mine",), program=elsewhere, cwd=tmp_path)
    assert found.hint == "./mine"


def test_a_command_in_a_private_directory_must_be_granted(tmp_path: Path) -> None:
    (tmp_path / "tool").touch()
    path = str(tmp_path / "tool")
    found = verdict(failed(2), argv=(path,), program=Program((path.encode(),), (path.encode(),)))
    granted = str(tmp_path).startswith(("/tmp/", "/var/tmp/", "/run/", "/dev/shm/"))
    assert found.hint == (f"--ro {tmp_path}" if granted else None)


def test_a_bad_interpreter_is_named(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/no/such/shell -e\n")
    found = verdict(
        failed(2, interpreter=True), argv=("script",), program=program(tmp_path, "script")
    )
    assert found.message == "script: bad interpreter /no/such/shell: No such file or directory"
    assert "interpreter" in verdict(failed(2, interpreter=True)).message


def test_a_script_that_nobody_may_execute_wants_its_mode(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "data").write_text("root:x:0\n")
    found = verdict(failed(13), argv=("script",), program=program(tmp_path, "script"))
    assert found.hint == f"chmod +x {tmp_path}/script"
    found = verdict(failed(13), argv=("data",), program=program(tmp_path, "data"))
    assert found.hint is None


def test_a_script_without_a_shell_is_told_apart_from_a_program(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo\n")
    found = verdict(failed(8), argv=("script",), program=program(tmp_path, "script"))
    assert found.hint == "sh script"


# ---- the object


def test_the_object_is_the_one_of_the_documents() -> None:
    found = json.loads(verdict(record(exited(0)), LIMIT).to_json())
    assert list(found) == [
        "id", "name", "state", "cause", "exit_code", "signal", "status", "message", "hint", "argv",
        "user", "queued_at", "started_at", "ended_at", "wall_seconds", "limits", "usage", "events",
        "output", "setup_failure",
    ]  # fmt: skip
    assert list(found["usage"]) == [
        "memory_peak", "memory", "cpu_user_usec", "cpu_system_usec", "cpu_throttled_usec",
        "pids_peak", "io", "pressure",
    ]  # fmt: skip
    assert list(found["events"]) == ["oom", "oom_kill", "oom_group_kill", "pids_max"]
    assert list(found["output"]) == ["stdout_bytes", "stderr_bytes", "lost_bytes", "errno"]


def test_what_was_used_is_what_the_kernel_counted() -> None:
    counters = {
        "memory.peak": "4096\n",
        "pids.peak": "5\n",
        "cpu.stat": "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 1\nthrottled_usec 7\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n",
        "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n",
    }
    sample = "anon 1\nfile 2\nkernel 3\nshmem 4\nslab 5\n"
    found = verdict(
        record(0, counters=counters, memory_sample=sample, stdout_bytes=6, lost_bytes=1)
    )
    assert dataclasses.asdict(found.usage) == {
        "memory_peak": 4096,
        "memory": {"anon": 1, "file": 2, "shmem": 4, "kernel": 3},
        "cpu_user_usec": 10,
        "cpu_system_usec": 20,
        "cpu_throttled_usec": 7,
        "pids_peak": 5,
        "io": {"8:0": {"rbytes": 1, "wbytes": 2, "rios": 3, "wios": 4}},
        "pressure": {"memory": {"some_usec": 11, "full_usec": 12}},
    }
    assert found.output == {
        "stdout_bytes": 6,
        "stderr_bytes": 0,
        "lost_bytes": 1,
        "errno": None,
    }


@pytest.mark.parametrize("text", ["", "max\n", "-1", "1 2", "x", "٣", "9" * 30])
def test_a_counter_that_is_no_number_is_null(text: str) -> None:
    counters = {
        "memory.peak": text,
        "memory.events": f"oom {text}\noom_kill\n",
        "pids.events": text,
    }
    found = verdict(record(0, counters=counters))
    assert found.usage.memory_peak is None
    assert set(found.events.values()) == {None}


def test_times_are_utc_with_microseconds() -> None:
    found = verdict(record(0))
    assert found.started_at == "2023-11-14T22:13:20.123456Z"
    assert (found.ended_at, found.wall_seconds) == ("2023-11-14T22:13:21.123456Z", 1.0)
    spec = Spec.make(["x"])
    seen = judge(spec, "id", None, {}, queued_ns=START, started_ns=START, ended_ns=START)
    assert seen.queued_at == seen.started_at == seen.ended_at == found.started_at


def test_bytes_that_are_no_text_still_make_valid_json() -> None:
    found = judge(Spec.make([b"\xff\x1b[31m"]), "id", record(exited(0)), {})
    assert json.loads(found.to_json())["argv"] == ["\\xff\x1b[31m"]
    found = judge(Spec.make([b"\xff\x1b[31m"]), "id", record(9, EndedBy.KILL), {})
    assert found.message == "\\xff\\x1b[31m was killed on request"


def test_an_error_carries_its_verdict() -> None:
    found = verdict(record(9, counters=memory(1, 1, 1)), LIMIT)
    error = failures.failure_of(found, args_=["python3"], stdout=b"out")
    assert isinstance(error, failures.OutOfMemory)
    assert (error.peak, error.limit, error.exit_status) == (268435456, 268435456, 137)
    assert (error.verdict, error.args_, error.stdout, error.stderr) == (
        found,
        ["python3"],
        b"out",
        None,
    )
    assert type(failures.failure_of(verdict(record(exited(1))))) is failures.JobFailed


def test_output_that_a_full_disk_did_not_take_is_no_success() -> None:
    found = verdict(record(0, lost_bytes=3, output_errno=28))
    assert (found.cause, found.exit_code, found.status) == ("exited", 0, 125)
    assert "3 bytes of its output were lost: No space left on device" in found.message
    assert found.output["errno"] == "ENOSPC"


def test_a_reader_that_has_gone_lost_nothing_that_it_wanted() -> None:
    found = verdict(record(0, lost_bytes=3, output_errno=32))
    assert found.status == 0
    assert "lost" not in found.message


def test_output_above_the_limit_is_told() -> None:
    found = verdict(record(0, lost_bytes=3), output_max="10")
    assert "3 bytes of output above its limit 10 were lost" in found.message
    assert found.hint == "--output-max 20"
