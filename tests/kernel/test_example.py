"""The example program, against a real daemon: what a newcomer sees is what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kernel.serving import serving
from tests.machine import PATIENCE, REPO


def test_the_first_jobs(tmp_path: Path) -> None:
    with serving(tmp_path / "state"):
        done = subprocess.run(
            [sys.executable, REPO / "examples/first_jobs.py"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",  # where a job may stand, wherever the checkout lies
        )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # Whether it is executed already when it is asked.
    assert lines.pop(3) in ("sleeping: starting", "sleeping: running")
    assert lines[:4] == [
        r"a job wrote b'hello\n'",
        r"a job wrote b'world\n'",
        "the first one: completed, exit code 0",
        "stopped: stopped, because: sleep was stopped on request",
    ]
    failing, said, absent, missing, finished = lines[4:]
    assert failing.startswith("failing: failed, because: exited with code 2")
    assert "No such file or directory" in said
    assert absent.startswith("not there: failed, because: no-such-command")
    assert missing == "an absent job: there is no job no-such-job"
    assert finished.startswith("a finished job: job ")
    assert "completed" in finished
