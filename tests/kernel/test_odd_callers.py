"""Programs that run jobs and do things of their own meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import jobsup
from tests.machine import leaves, wait_no_inits

FORKING = """
import os, threading, time, jobsup
read_end, write_end = os.pipe()
job = {"args": (["sh", "-c", "echo up; sleep 1000"],), "kwargs": {"cwd": "/", "stdout": write_end}}
threading.Thread(target=jobsup.run, **job).start()
os.read(read_end, 3)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def visible_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")


def test_a_fork_of_the_caller_does_not_keep_the_job_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKING], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        try:
            caller.kill()
            wait_no_inits()
            assert leaves() == set()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_program_that_closed_what_it_does_not_know_still_runs_jobs() -> None:
    code = (
        "import jobsup, os; run = lambda: jobsup.run(['true'], cwd='/').returncode; run()\n"
        "os.closerange(3, 256); open('/etc/passwd'); print(run(), run())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout == b"0 0\n"


@pytest.mark.parametrize("room", range(0, 16, 3))
def test_without_descriptors_nothing_is_left_and_the_error_is_ours(room: int) -> None:
    jobsup.run(["true"])  # what is made once a process is there
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, before[1]))
    try:
        with suppress(jobsup.JobsupError):
            jobsup.run(["true"], capture_output=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert leaves() == set()


def test_both_streams_into_one_file_lose_nothing(tmp_path: Path) -> None:
    flood = "import os\nfor _ in range(200): os.write({}, b'x' * 5000)"
    script = f'python3 -c "{flood.format(1)}" & python3 -c "{flood.format(2)}"; wait'
    with (tmp_path / "out").open("wb") as file:
        done = jobsup.run(["sh", "-c", script], stdout=file, stderr=file)
    assert done.verdict.output["lost_bytes"] == 0
    assert (tmp_path / "out").stat().st_size == 2_000_000


def test_a_job_makes_no_group_in_its_leaf() -> None:
    """Else one of root's could, through a user namespace, keep the leaf from being removed."""
    done = jobsup.run(["cat", "/sys/fs/cgroup/cgroup.max.descendants"], stdout=jobsup.PIPE)
    assert done.stdout == b"0\n"
