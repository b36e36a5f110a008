"""The init under UBSan: jobs of every kind of end, and none with undefined behaviour on its way.

Such an init stops at its first finding, so that its job is lost instead of ending as it should.
(AddressSanitizer needs a part of the address space that some test kernels use themselves; the
decoder of plans has it in tests/unit/test_plan_decoder.py.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobsup.isolation import Bind, EndedBy, Identity, spawn
from jobsup.isolation.native import build
from tests.kernel.jobs import here, run_here
from tests.kernel.kept import Keeper, end_of, status_of, walls


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("native"), "undefined")[1]


@pytest.fixture(autouse=True)
def init(sanitized: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert b"ubsan" in sanitized.read_bytes()
    monkeypatch.setattr(spawn, "_INIT", sanitized)
    monkeypatch.setattr(spawn, "_program", None)
    yield


def test_it_is_the_one_that_runs() -> None:
    verdict, stdout, _ = run_here(["sh", "-c", "cat /proc/1/status; ls -l /proc/1/exe"])
    assert verdict.cause == "exited"
    assert b"jobsup-init" in stdout


def test_streams_of_every_size() -> None:
    script = "cat; head -c 3000000 /dev/zero; echo err >&2"
    verdict, stdout, stderr = run_here(["sh", "-c", script], input=b"x" * 1_000_000)
    assert verdict.cause == "exited", verdict.message
    assert (len(stdout), stderr) == (4_000_000, b"err\n")


@pytest.mark.parametrize(
    ("script", "options", "cause"),
    [
        ("exit 3", {}, "exited"),
        ("kill -SEGV $$", {}, "signaled"),
        ("sleep 1000", {"time": "100ms", "grace": "100ms"}, "timeout"),
        ("trap '' TERM; while :; do sleep 1; done", {"time": "1s", "grace": "1s"}, "timeout"),
        ("while :; do :; done", {"cpu_time": "100ms"}, "cpu-time"),
        ("yes", {"output_max": "10K", "output_full": "kill"}, "output"),
        ("head -c 100000 /dev/zero", {"output_max": "10K"}, "exited"),
        ("head -c 64M /dev/zero | tail", {"mem": "16M"}, "memory"),
        ("seq 50 | while read i; do (setsid sleep 0 &) ; done", {}, "exited"),
        ("exec 1>&- 2>&-; sleep 1000 &", {}, "exited"),
    ],
)
def test_every_end(script: str, options: dict[str, Any], cause: str) -> None:
    verdict, _, _ = run_here(["sh", "-c", script], **options)
    assert verdict.cause == cause, verdict.message


def test_what_cannot_start() -> None:
    assert run_here(["no-such-command"])[0].cause == "exec"
    assert run_here(["true"], cwd="/root", user="nobody")[0].cause == "setup"


def test_with_everything_granted() -> None:
    options: dict[str, Any] = {
        "rw": ["/"],
        "ro": ["/etc:/mnt"],
        "tmpfs": ["/opt:1M"],
        "net": "host",
    }
    verdict, stdout, _ = run_here(
        ["cat", "/proc/self/mountinfo"], user="nobody", rlimit=["nofile=100"], **options
    )
    assert (verdict.cause, verdict.exit_code) == ("exited", 0)
    assert b" /opt " in stdout


@pytest.mark.parametrize(("ask", "cause"), [("stop", "stopped"), ("kill", "killed")])
def test_requests(ask: str, cause: str) -> None:
    with here(["sleep", "1000"]) as job:
        job.wait_started()
        job.handle.signal(signal.SIGWINCH)
        if ask == "stop":
            job.handle.stop(signal.SIGTERM, 1000)
        else:
            job.handle.kill()
        assert job.end()[0].cause == cause


def test_a_kept_job_that_changes_hands(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"line\n" * 100_000)
    stdin = os.open(tmp_path / "given", os.O_RDONLY)
    script = "wc -c; for i in $(seq 300); do echo $i; done; echo ready; read x; sleep 1000"
    owner = Identity(65534, 65534)
    asked = walls(script, grants=(Bind(b"/usr", b"/tmp/a"), Bind(b"/usr", b"/run/b")))
    asked = asked._replace(files=asked.files._replace(resolve_as=owner))
    first = keeper.launch(asked, stdin=stdin)
    os.close(stdin)
    assert status_of(first).started_ns
    keeper.wait_output(b"ready\n")
    job = keeper.adopt()
    assert status_of(job).started_ns
    job.pause()
    assert status_of(job).paused
    job.resume()
    assert not status_of(job).paused
    job.stop(signal.SIGTERM, 1000)
    assert end_of(job).ended_by is EndedBy.STOP
    first.conclude()
    assert (keeper.directory / "stdout").read_bytes().startswith(b"500000\n1\n2\n")


def test_a_job_whose_lifeline_is_let_go(keeper: Keeper) -> None:
    lifeline, ours = os.pipe()
    job = keeper.launch(walls("exec sleep 1000"), lifeline=lifeline)
    os.close(lifeline)
    os.close(ours)
    assert end_of(job).ended_by is EndedBy.PEER_LOST
