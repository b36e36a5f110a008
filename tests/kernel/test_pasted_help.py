"""What `jobsup --help` shows as an example does what it shows, pasted as it stands."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from jobsup.cli.main import cli
from tests.machine import JOBSUP, PATIENCE


def example() -> str:
    """The indented lines below "Examples:"."""
    text = cli.get_help(click.Context(cli, info_name="jobsup"))
    lines = text.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    return "\n".join(line.strip() for line in lines) + "\n"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A directory with the commands that the example calls."""
    jobsup = f'#!/bin/sh\nexec {shlex.join(JOBSUP)} "$@"\n'
    for name, script in {"jobsup": jobsup, "sudo": '#!/bin/sh\nexec "$@"\n'}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_help_can_be_pasted(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (words / "program.py").write_text("print('it ran')\n")
    monkeypatch.setenv("PATH", f"{words}:{os.environ['PATH']}")
    monkeypatch.delenv("JOBSUP_SOCKET", raising=False)
    # A daemon of its own, named only from here on: `run` needs none.
    state = shlex.quote(str(words))
    served = f"export JOBSUP_SOCKET={state}/socket\nsudo jobsup serve --state {state}/state"
    # The job finds program.py where it stands, which is below its own empty /tmp otherwise.
    pasted = example().replace("sudo jobsup serve", served).replace("--mem", "--rw . --mem")
    assert pasted.count("program.py") == 2
    assert "\nsudo jobsup serve --state" in pasted
    script = f"set -m\ntrap 'kill %1 && wait || :' EXIT\n{pasted}jobsup rm $id\n"
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=words, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("it ran\n") == 2, done.stderr
