"""One daemon a state directory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobsup.supervisor.daemon.lock import StateLock
from jobsup.supervisor.errors import AlreadyRunning


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_the_second_is_told_who_has_it(path: Path) -> None:
    held = StateLock(path)
    with pytest.raises(
        AlreadyRunning, match=rf"a daemon with pid {os.getpid()} uses {path.parent}"
    ):
        StateLock(path)
    held.release()


def test_whoever_was_refused_can_have_it_later(path: Path) -> None:
    held = StateLock(path)
    for _ in range(3):
        with pytest.raises(AlreadyRunning):
            StateLock(path)
    held.release()
    held.release()  # a second time does nothing, least of all to another's descriptor
    again = StateLock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    again.release()


def test_it_goes_with_its_process_however_that_ends(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from jobsup.supervisor.daemon.lock import StateLock\n"
        "lock = StateLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(AlreadyRunning, match=f"pid {holder.pid} "):
        StateLock(path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    StateLock(path).release()


def test_nobody_else_can_read_it_and_no_child_gets_it(path: Path) -> None:
    held = StateLock(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert fcntl.fcntl(held._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    held.release()


def test_what_the_file_said_before_does_not_matter(path: Path) -> None:
    path.write_text("a longer text than any pid\n" * 3)
    held = StateLock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    held.release()
