"""Signals that reach `jobsup run` reach the job, as if it were not isolated at all."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.kernel.jobs import Jobs, Running, program
from tests.machine import children

PASSED_ON: dict[int, str] = {
    **{signal.Signals[f"SIG{name}"]: f"SIG{name}" for name in "HUP INT QUIT TERM USR1".split()},
    signal.SIGALRM: "SIGALRM",
    signal.SIGWINCH: "SIGWINCH",
    signal.SIGRTMIN: "SIGRTMIN",
    signal.SIGRTMIN + 3: "SIGRTMIN+3",
}


@pytest.fixture
def reporter(jobs: Jobs) -> Running:
    running = jobs.start(program("signal_reporter"))
    assert running.line() == "ready"
    return running


def test_each_signal_reaches_the_job_once_and_in_order(reporter: Running) -> None:
    for number, name in PASSED_ON.items():
        reporter.signal(number)
        assert reporter.line() == name
    reporter.signal(signal.SIGUSR2)
    ended = reporter.end()
    assert ended.stdout == b"SIGUSR2\n"
    assert (ended.status, ended.cause, ended.stderr) == (7, "exited", b"")


@pytest.mark.parametrize("name", "HUP INT QUIT TERM USR1 ALRM".split())
def test_who_does_not_catch_a_signal_ends_by_it(jobs: Jobs, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    running = jobs.start(["sh", "-c", "echo ready; exec sleep 1000"])
    assert running.line() == "ready"
    running.signal(number)
    ended = running.end()
    assert (ended.status, ended.cause) == (128 + number, "signaled")
    assert ended.verdict["signal"] == f"SIG{name}"
    assert ended.stderr == f"jobsup: sh was ended by SIG{name}\n".encode()


def test_a_signal_reaches_what_a_shell_waits_for_as_at_a_terminal(jobs: Jobs) -> None:
    running = jobs.start(["sh", "-c", "echo ready; sleep 1000; echo sleep is over"])
    assert running.line() == "ready"
    running.signal(signal.SIGINT)
    ended = running.end()
    assert (ended.status, ended.stdout) == (130, b"")


def test_a_second_interrupt_kills(reporter: Running) -> None:
    reporter.signal(signal.SIGINT)
    assert reporter.line() == "SIGINT"
    reporter.signal(signal.SIGINT)
    ended = reporter.end()
    assert (ended.status, ended.cause, ended.verdict["state"]) == (137, "killed", "stopped")


def test_a_hangup_that_nohup_ignores_stays_ignored(jobs: Jobs) -> None:
    running = jobs.start(
        program("signal_reporter"),
        preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert running.line() == "ready"
    running.signal(signal.SIGHUP)
    running.signal(signal.SIGUSR1)
    assert running.line() == "SIGUSR1"
    running.signal(signal.SIGUSR2)
    assert running.end().status == 7


def test_nohup_itself(jobs: Jobs) -> None:
    running = jobs.start(program("signal_reporter"), wrapper=["nohup"])
    assert running.line() == "ready"
    running.signal(signal.SIGHUP)
    running.signal(signal.SIGUSR2)
    ended = running.end()
    assert (ended.status, ended.stdout) == (7, b"SIGUSR2\n")


def test_what_the_caller_ignores_or_blocks_is_not_ignored_in_the_job(jobs: Jobs) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])

    status = jobs.start(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], preexec=ignore)
    zero = b"0000000000000000"
    assert status.end().stdout.split() == [b"SigBlk:", zero, b"SigIgn:", zero]


def test_a_signal_at_any_moment_of_the_start_ends_the_run_and_leaves_nothing(jobs: Jobs) -> None:
    """Before the job exists the signal ends jobsup itself; from then on it ends the job."""
    moments = random.Random(1)
    for _ in range(12):
        running = jobs.start(["sleep", "1000"])
        time.sleep(moments.uniform(0.1, 0.8))
        running.signal(signal.SIGTERM)
        ended = running.end()
        assert ended.status in {-signal.SIGTERM, 143}
        if ended.status == 143:
            assert ended.cause == "signaled"


def test_a_signal_as_soon_as_there_is_an_init_ends_the_job(jobs: Jobs) -> None:
    for _ in range(5):
        running = jobs.start(["sleep", "1000"])
        while not children(running.process.pid):
            assert running.process.poll() is None, running.end()
        running.signal(signal.SIGTERM)
        ended = running.end()
        assert (ended.status, ended.cause) == (143, "signaled")
