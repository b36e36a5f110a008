"""`jobsup serve` as somebody who cannot be the daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from jobsup.cli.commands.serve import serve

# What is imported while it is root: an interpreter of root's may lie where nobody else reads.
AS_NOBODY = """
import os, sys
import jobsup.cli.commands.serve, jobsup.supervisor.daemon.serve
from jobsup.cli import core, main
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(main.invoke(["serve", "--state", sys.argv[1]], core.Core()))
"""


def test_only_root_can_be_the_daemon(tmp_path: Path) -> None:
    state = tmp_path / "state"
    tmp_path.chmod(0o777)
    command = [sys.executable, "-I", "-c", AS_NOBODY, str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "jobsup: only root can be the daemon\nhint: sudo jobsup serve\n"
    assert not state.exists()


def test_its_help_says_what_holds_where_nothing_is_said() -> None:
    """That _places does so, is a test of the dispatcher's."""
    (option,) = (option for option in serve.params if option.name == "max_running")
    assert isinstance(option, click.Option)
    assert option.help is not None
    assert "a sixth of the descriptors" in option.help
