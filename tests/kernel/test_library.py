"""jobsup.run: a job as a function call, with subprocess.run's shape."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

import jobsup

HOG = ["python3", "-c", "bytearray(100 << 20)"]


@pytest.fixture(autouse=True)
def visible_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")


def test_output_is_captured_apart_as_bytes_or_text() -> None:
    script = ["sh", "-c", r"printf 'a\377'; echo b >&2"]
    done = jobsup.run(script, capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"a\xff", b"b\n", 0)
    text = jobsup.run(script, capture_output=True, text=True)
    assert (text.stdout, text.stderr) == ("a\udcff", "b\n")


def test_subprocess_own_constants_work() -> None:
    script = ["sh", "-c", "echo out; echo err >&2; echo out"]
    done = jobsup.run(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.stdout, done.stderr) == (b"out\nerr\nout\n", None)


def test_input_reaches_the_job_whole() -> None:
    data = os.urandom(3_000_000)
    assert jobsup.run(["cat"], input=data, stdout=jobsup.PIPE).stdout == data


def test_a_job_that_does_not_read_its_input_ends_all_the_same() -> None:
    done = jobsup.run(["true"], input=b"x" * 3_000_000)
    assert done.returncode == 0


def test_a_file_is_copied_into_the_job(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    with source.open("rb") as file:
        assert jobsup.run(["cat"], stdin=file, stdout=jobsup.PIPE).stdout == b"from a file"


def test_output_goes_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        jobsup.run(["sh", "-c", "echo one"], stdout=file)
        jobsup.run(["sh", "-c", "echo two"], stdout=file, stderr=jobsup.DEVNULL)
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


def test_a_memory_kill_says_peak_and_limit() -> None:
    with pytest.raises(jobsup.OutOfMemory) as caught:
        jobsup.run(HOG, mem="24M", check=True)
    error = caught.value
    assert error.limit == 24 << 20
    assert error.peak is not None
    assert error.limit * 0.9 <= error.peak <= error.limit
    assert error.verdict.cause == "memory"
    assert str(error.hint).startswith("--mem")


def test_without_check_a_failed_job_is_a_return_value() -> None:
    assert jobsup.run(["sh", "-c", "exit 9"]).returncode == 9
    assert jobsup.run(HOG, mem="24M").verdict.cause == "memory"


def test_a_timeout_is_always_raised_with_what_was_captured() -> None:
    script = ["sh", "-c", "trap '' TERM; echo first; sleep 100"]
    with pytest.raises(jobsup.TimedOut) as caught:
        jobsup.run(script, timeout=1, stdout=jobsup.PIPE)
    assert caught.value.stdout == b"first\n"
    assert caught.value.verdict.status == 124


def test_a_command_that_cannot_be_executed_is_always_raised() -> None:
    with pytest.raises(jobsup.ExecFailed) as caught:
        jobsup.run(["no-such-command"])
    assert caught.value.exit_status == 127


def test_a_signal_has_a_type_of_its_own() -> None:
    with pytest.raises(jobsup.Signaled) as caught:
        jobsup.run(["sh", "-c", "kill -TERM $$"], check=True)
    assert caught.value.exit_status == 128 + signal.SIGTERM


@pytest.mark.parametrize("limit", ["256X", -1, "", 2**64, True])
def test_a_bad_limit_creates_nothing(limit: str | int) -> None:
    with pytest.raises(jobsup.BadValue) as caught:
        jobsup.run(["true"], mem=limit)
    assert caught.value.field == "mem"


def test_an_interrupt_ends_the_job_and_is_raised(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)

    def interrupt() -> None:
        started.read_bytes()  # until the job has opened and closed it
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        jobsup.run(["sh", "-c", f": > {started}; sleep 1000"], rw=tmp_path, stdin=jobsup.DEVNULL)
    thread.join()


def test_many_threads_run_jobs_at_once_and_mix_nothing_up() -> None:
    results: dict[int, bytes | None] = {}

    def one(number: int) -> None:
        done = jobsup.run(["cat"], input=b"%d" % number * 1000, stdout=jobsup.PIPE)
        results[number] = done.stdout

    before = set(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"%d" % number * 1000 for number in range(12)}
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1, "the init's program at most"


def test_a_program_that_ignores_its_children_still_gets_its_verdict() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert jobsup.run(["sh", "-c", "exit 3"]).returncode == 3
    finally:
        signal.signal(signal.SIGCHLD, before)
