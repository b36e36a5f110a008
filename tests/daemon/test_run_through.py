"""`jobsup run` through the daemon, end to end: the job's streams are the caller's own, byte for
byte and with back-pressure, and whatever happens to the caller or to the daemon is told right."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Opener
from tests.daemon.served import Served
from tests.kernel.jobs import program, with_grants
from tests.machine import JOBSUP, PATIENCE, leaves, wait_no_inits

STDIN_MIB = 64


@contextmanager
def running(
    daemon: Served,
    *arguments: str,
    **options: Any,  # noqa: ANN401 - those of Popen
) -> Iterator[subprocess.Popen[bytes]]:
    """A `jobsup run` that goes on, in a session of its own."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [*JOBSUP, "run", *arguments], env=daemon.environment, start_new_session=True,
        cwd="/", **{**streams, **options},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(daemon: Served, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*JOBSUP, "run", *arguments], env=daemon.environment, input=data, cwd="/",
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return process.stdout.readline()


def only_job(daemon: Served) -> Any:  # noqa: ANN401 - JSON
    (found,) = daemon.api.all()
    return daemon.api.wait(found["id"])


# ---- bytes


def test_large_streams_both_ways(clean: Served, tmp_path: Path) -> None:
    """64 MiB in, 64 MiB out, and as many on stderr; each its own."""
    size = STDIN_MIB << 20
    block = os.urandom(1 << 20)
    given = hashlib.sha256(block * STDIN_MIB).hexdigest()
    with running(clean, "--", "sh", "-c", "tee /dev/stderr", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        digests: dict[str, str] = {}

        def digest(name: str, stream: Any) -> None:  # noqa: ANN401
            found = hashlib.sha256()
            while data := stream.read(1 << 20):
                found.update(data)
            digests[name] = found.hexdigest()

        readers = [
            threading.Thread(target=digest, args=(name, stream))
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        resident = clean.forget_peak()
        for _ in range(STDIN_MIB):
            process.stdin.write(block)
        process.stdin.close()
        for reader in readers:
            reader.join(PATIENCE)
        assert process.wait(PATIENCE) == 0
        print(f"\n{size >> 20} MiB: the daemon grew by {clean.peak() - resident} KiB")
        assert clean.peak() - resident < 4096
    assert digests == {"stdout": given, "stderr": given}


def test_a_reader_that_leaves_ends_the_job_as_in_a_shell(clean: Served) -> None:
    command = " ".join([*JOBSUP, "run", "--", "yes"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"], env=clean.environment,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True, cwd="/",
    )  # fmt: skip
    assert done.stdout == b"y\n141\n"
    verdict = only_job(clean)["verdict"]
    assert (verdict["cause"], verdict["signal"]) == ("signaled", "SIGPIPE")


def test_a_slow_reader_slows_the_job_and_loses_nothing(clean: Served) -> None:
    with running(clean, "--", "sh", "-c", "seq 1 300000; echo over >&2") as process:
        assert process.stdout
        assert process.stderr
        os.set_blocking(process.stderr.fileno(), False)
        assert line(process) == b"1\n"
        time.sleep(1)
        # The job is behind what a pipe holds, and nothing of it is anywhere else.
        assert process.stderr.read() is None
        expected = b"".join(b"%d\n" % number for number in range(2, 300001))
        assert process.stdout.read() == expected
        assert process.wait(PATIENCE) == 0
        os.set_blocking(process.stderr.fileno(), True)
        assert process.stderr.read() == b"over\n"


# ---- how it ends


@pytest.mark.parametrize(
    ("script", "status", "cause"),
    [
        ("exit 0", 0, "exited"),
        ("exit 77", 77, "exited"),
        ("kill -KILL $$", 137, "signaled"),
        ("kill -SEGV $$", 139, "signaled"),
        ("exec /nowhere/there", 127, "exited"),
    ],
)
def test_the_exit_status_is_the_commands(
    clean: Served, script: str, status: int, cause: str
) -> None:
    assert run(clean, "--", "sh", "-c", script).returncode == status
    assert only_job(clean)["verdict"]["cause"] == cause


def test_what_cannot_be_executed(clean: Served) -> None:
    assert run(clean, "--", "/nowhere/there").returncode == 127
    assert run(clean, "--", "/etc/passwd").returncode == 126
    assert run(clean, "--time", "0.3s", "--", "sleep", "1000").returncode == 124
    assert run(clean, "--mem", "0", "--", "true").returncode == 125


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_the_job(clean: Served, number: signal.Signals) -> None:
    with running(clean, *with_grants(program("signal_reporter"))) as process:
        assert line(process) == b"ready\n"
        process.send_signal(number)
        assert line(process) == f"{number.name}\n".encode()


def test_the_second_interrupt_kills(clean: Served) -> None:
    with running(clean, *with_grants(program("signal_reporter"))) as process:
        assert line(process) == b"ready\n"
        process.send_signal(signal.SIGINT)
        # Until it has come: of a signal that is pending a second one is none.
        assert line(process) == b"SIGINT\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 137
    assert only_job(clean)["verdict"]["cause"] == "killed"


def test_a_killed_caller_takes_its_job_along(clean: Served) -> None:
    with running(clean, "--", "sh", "-c", "setsid sleep 1000 & echo up; wait") as process:
        assert line(process) == b"up\n"
        process.kill()
        assert only_job(clean)["state"] in ("stopped", "failed")
    assert leaves() == set()


def test_a_killed_caller_without_a_daemon_too(open_daemon: Opener) -> None:
    daemon = open_daemon()
    with running(daemon, "--", "sh", "-c", "echo up; sleep 1000") as process:
        assert line(process) == b"up\n"
        daemon.kill()
        process.kill()
    daemon.start()
    ended = only_job(daemon)
    print(f"\n{ended['verdict']['message']}")
    assert ended["state"] in ("stopped", "failed")
    assert ended["verdict"]["cause"] == "killed"


# ---- the daemon dies meanwhile


def test_a_run_goes_on_behind_a_killed_daemon(open_daemon: Opener) -> None:
    daemon = open_daemon()
    script = "echo up; while read word; do echo $word; done; echo end >&2; exit 9"
    with running(daemon, "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        assert line(process) == b"up\n"
        for turn in range(3):
            daemon.kill()
            process.stdin.write(b"down%d\n" % turn)
            process.stdin.flush()
            assert line(process) == b"down%d\n" % turn
            daemon.start()
            process.stdin.write(b"up%d\n" % turn)
            process.stdin.flush()
            assert line(process) == b"up%d\n" % turn
        process.stdin.close()
        assert process.wait(PATIENCE) == 9
        # A daemon that is slow to come back is told of.
        away = b"jobsup: no daemon answers, and one is waited for"
        said = process.stderr.read().splitlines()
        assert [words for words in said if not words.startswith(away)] == [b"end"]


def test_a_run_that_ends_while_there_is_no_daemon(open_daemon: Opener) -> None:
    daemon = open_daemon()
    with running(daemon, "--", "sh", "-c", "echo up; read word; echo bye; exit 4",
                 stdin=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdin
        assert line(process) == b"up\n"
        daemon.kill()
        process.stdin.close()
        assert line(process) == b"bye\n"
        wait_no_inits()
        daemon.start()
        assert process.wait(PATIENCE) == 4


# ---- it waits


def test_a_run_waits_for_its_place(open_daemon: Opener) -> None:
    daemon = open_daemon("--max-running", "1")
    first = daemon.submit(["sleep", "1000"])
    with (
        running(daemon, "--name", "given-up", "--", "echo", "never") as given_up,
        running(daemon, "--name", "killed", "--", "echo", "never") as killed,
        running(daemon, "--name", "kept", "--", "cat", stdin=subprocess.PIPE) as kept,
    ):
        for name in ("given-up", "killed", "kept"):
            while not (found := daemon.api.call("GET", "/jobs", name=name)["jobs"]):
                pass
            assert found[0]["state"] == "queued"
        given_up.send_signal(signal.SIGINT)
        assert given_up.wait(PATIENCE) in (130, 143)
        killed.kill()
        daemon.api.stop(first)
        assert kept.communicate(b"at last", PATIENCE)[0] == b"at last"
        assert kept.returncode == 0
        assert given_up.stdout
        assert given_up.stdout.read() == b""
    # Whichever of the three came first: the killed one may have its place only now.
    states = {line["name"]: daemon.api.wait(line["id"])["state"] for line in daemon.api.all()}
    print(f"\n{states}")
    assert states["given-up"] == "stopped"
    assert states["killed"] in ("stopped", "failed")


def test_runs_start_in_the_order_in_which_they_came(open_daemon: Opener) -> None:
    daemon = open_daemon("--max-running", "1")
    first = daemon.submit(["sleep", "1000"])
    jobs = [daemon.shell(f"echo {number}") for number in range(6)]
    daemon.api.stop(first)
    ends = [daemon.api.wait(job) for job in jobs]
    assert [end["started_at"] for end in ends] == sorted(end["started_at"] for end in ends)
    assert [daemon.output(job) for job in jobs] == [b"%d\n" % number for number in range(6)]
