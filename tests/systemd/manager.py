"""systemd as the tests ask it: systemctl, and what it shows of jobsup's two units."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

KEEPER = "jobsup-keeper.service"
DAEMON = "jobsup.service"
KEEPER_GROUP = Path("/sys/fs/cgroup/system.slice", KEEPER)


def systemctl(*arguments: str) -> str:
    """What it printed; its failure is the test's."""
    done = subprocess.run(
        ["systemctl", *arguments], check=False, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, f"systemctl {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def show(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = systemctl("show", *(f"--property={name}" for name in names), unit).splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def shown(unit: str, name: str) -> str:
    return show(unit, name)[name]


def main_pid() -> int:
    """The daemon's."""
    return int(shown(DAEMON, "MainPID"))


def journal(unit: str) -> list[dict[str, str]]:
    """What a unit said on stderr, and systemd of it: the journal's fields, an entry each."""
    subprocess.run(["journalctl", "--sync"], check=True)
    printed = subprocess.run(
        ["journalctl", "--no-pager", "--output=json", f"--unit={unit}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [json.loads(line) for line in printed.stdout.splitlines()]
