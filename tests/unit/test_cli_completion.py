"""The completion in a bash, as somebody types and presses the Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobsup.cli.core import Core
from jobsup.cli.main import invoke
from tests.fake_daemon import FakeDaemon, job_status, json_answer

_SECONDS = 30


@pytest.fixture
def home(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A directory with a program, a file, a directory and the completion."""
    assert invoke(["completion", "bash"], Core()) == 0
    (tmp_path / "completion").write_text(capfd.readouterr().out)
    for name, text in (
        ("jobsup", f'exec {shlex.quote(sys.executable)} -I -m jobsup "$@"'),
        ("a-program-of-ours", "true"),
    ):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    (tmp_path / "first.env").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def after_tab(home: Path, typed: str, socket: Path | None = None) -> list[str]:
    """The words of the line when Tab has been pressed at its end."""
    ours, theirs = pty.openpty()
    environment = {
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "JOBSUP_SOCKET": str(socket or home / "none"),
        "TERM": "dumb",
        "HOME": str(home),
    }
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=home,
        start_new_session=True,
    ) as bash:  # fmt: skip
        os.close(theirs)
        os.write(ours, b"source completion; printf '<%s>' ready\n")
        _until(ours, b"<ready>")
        # Printed, not executed: what prints it, and a last word, are put around it.
        os.write(ours, f"{typed}\t\x01printf '<%s>' \x05 end\n".encode())
        shown = _until(ours, b"<end>")
        os.write(ours, b"exit\n")
        bash.wait(_SECONDS)
        os.close(ours)
    return re.findall(r"<([^%<>]*)>", shown.decode())[:-1]


def _until(descriptor: int, mark: bytes) -> bytes:
    shown = b""
    while mark not in shown:
        ready, _, _ = select.select([descriptor], [], [], _SECONDS)
        assert ready, shown
        shown += os.read(descriptor, 65536)
    return shown


@pytest.mark.parametrize(
    ("typed", "last"),
    [
        ("jobsup pau", "pause"),
        ("jobsup run --cpu-ti", "--cpu-time"),
        ("jobsup run --env-file fir", "first.env"),
        ("jobsup run --env-file=fir", "--env-file=first.env"),
        ("jobsup run --cwd fol", "folder/"),
        ("jobsup run --rw fol", "folder/"),
        ("jobsup run --net ho", "host"),
        ("jobsup run --output-full bl", "block"),
        ("jobsup start --restart al", "always"),
        ("jobsup out --stream stdo", "stdout"),
        ("jobsup run a-prog", "a-program-of-ours"),
        ("jobsup run -- a-prog", "a-program-of-ours"),
        ("jobsup run -- cat fir", "first.env"),
        ("jobsup run ./fir", "./first.env"),
        ("jobsup run --hostname fir", "first.env"),  # no word of ours: as bash does anywhere
    ],
)
def test_tab_completes(home: Path, typed: str, last: str) -> None:
    before = typed.split()[:-1]
    assert after_tab(home, typed) == [*before, last]


def test_what_has_ended_is_not_offered_to_be_stopped(home: Path) -> None:
    with FakeDaemon(home / "socket") as daemon:
        names = "name state user argv attempt queued_at started_at ended_at".split()
        told = job_status()
        job = {name: told[name] for name in names} | dict.fromkeys(["cause", "status", "message"])
        page = {"jobs": [{"id": f"{1:019x}", **job, "name": "build"}], "next": None}
        daemon.answers["GET /jobs"] = [json_answer(page)]
        assert after_tab(home, "jobsup pause bu", daemon.path) == ["jobsup", "pause", "build"]
        asked = [each.query.get("state") for each in daemon.asked("GET", "/jobs")]
        assert asked == ["queued", "starting", "running", "paused", "stopping"]
        assert after_tab(home, "jobsup explain bu", daemon.path)[-1] == "build"
        assert daemon.asked("GET", "/jobs")[-1].query.get("state") is None


# ---- zsh and fish, which need not be here: the words that they are told, and their scripts


def told(home: Path, shell: str, typed: str, number: int) -> list[str]:
    """What jobsup answers the script of this shell."""
    last = typed.rpartition(" ")[2]
    environment = {
        "PATH": os.environ["PATH"],
        "JOBSUP_SOCKET": str(home / "none"),
        "_JOBSUP_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": last if shell == "fish" else str(number),
    }
    done = subprocess.run(
        [home / "bin" / "jobsup"],
        env=environment,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
    )
    return done.stdout.decode().splitlines()


def test_fish_is_told_words_and_what_they_are(home: Path) -> None:
    answer = told(home, "fish", "jobsup st", 1)
    assert [line.split("\t")[0] for line in answer] == ["plain,start", "plain,status", "plain,stop"]
    assert told(home, "fish", "jobsup run --env-file f", 3) == ["file,f"]
    assert told(home, "fish", "jobsup run --net h", 3) == ["plain,host"]


def test_zsh_is_told_words_and_what_they_are(home: Path) -> None:
    answer = told(home, "zsh", "jobsup st", 1)
    assert answer[::3] == ["plain"] * 3
    assert answer[1::3] == ["start", "status", "stop"]
    assert told(home, "zsh", "jobsup run --env-file f", 3) == ["file", "f", "_"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_of_its_shell(
    shell: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["completion", shell], Core()) == 0
    script = capfd.readouterr().out
    assert f"_JOBSUP_COMPLETE={shell}_complete" in script
    (home / "script").write_text(script)
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n", home / "script"], check=True, timeout=_SECONDS)


def test_what_fish_shows_of_a_word_is_whole(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Commas included."""
    assert invoke(["completion", "fish"], Core()) == 0
    assert 'string split -m 1 "," $completion' in capfd.readouterr().out
