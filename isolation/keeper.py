"""Jobs on a systemd host: a unit whose delegated cgroup holds them, and nothing else.

systemd owns the cgroup tree; only below a unit with Delegate= may others make groups. The unit is
not the daemon's own, so that the daemon restarts freely while jobs run, and it is not one scope a
job, which would cost a D-Bus round trip and a unit each. A cgroup without a process vanishes, so
the unit runs a process that sleeps, moved into a child group before controllers are enabled: a
group with processes of its own cannot give controllers to its children (cgroup-v2.rst, "No Internal
Process Constraint"; systemd 252 has no DelegateSubgroup= that would do it for us).

`jobsup install` puts the unit in place; where it is not, a transient one of the same name does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import HostNotSupported

if TYPE_CHECKING:
    import subprocess

UNIT = "jobsup-keeper.service"
_NOT_INSTALLED = 5  # systemctl's exit status, from the LSB: "program is not installed"


def on_systemd() -> bool:
    """Whether systemd is PID 1 here; sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def base(mount: str) -> str:
    """The delegated cgroup, its unit started unless it runs.

    Raises:
        HostNotSupported: systemd did not start the unit.
    """
    directory = control_group(mount)
    if directory is None:
        _start()
        directory = control_group(mount)
    if directory is None:
        raise HostNotSupported(
            f"systemd started {UNIT} without a cgroup", hint=f"systemctl status {UNIT}"
        )
    _move_aside(directory)
    return directory


def control_group(mount: str) -> str | None:
    """The directory of the running unit, None without one."""
    directory = place(mount)
    return directory if os.path.isdir(directory) else None


def place(mount: str) -> str:
    """Where it is, or will be: a unit of the system slice always lives there."""
    return f"{mount}/system.slice/{UNIT}"


def _start() -> None:
    """Start the unit that was installed, else a transient one like it.

    Somebody else may win the race: that is as good. A job of the installed unit waits for the same
    end; a transient unit of that name that is there already is refused.
    """
    installed = _run(["systemctl", "start", UNIT])
    if installed.returncode == _NOT_INSTALLED:
        _start_transient()
    elif installed.returncode != 0:
        raise HostNotSupported(
            f"systemd could not start {UNIT}: {installed.stderr.strip()}",
            hint=f"systemctl status {UNIT}",
        )


def _start_transient() -> None:
    """What is set here is set, with its reasons, in supervisor/systemd/jobsup-keeper.service."""
    result = _run(
        [
            "systemd-run",
            f"--unit={UNIT}",
            "--description=jobsup: the cgroup of all jobs",
            "--slice=system.slice",
            "--property=After=network.target",
            "--property=Delegate=yes",
            "--property=Type=exec",
            "--property=OOMPolicy=continue",
            "--property=OOMScoreAdjust=-1000",
            "--property=TasksMax=infinity",
            "--quiet",
            "sleep",
            "infinity",
        ]
    )
    if result.returncode != 0 and "already" not in result.stderr:
        raise HostNotSupported(
            f"systemd-run could not start {UNIT}: {result.stderr.strip()}",
            hint="run as root, where systemd-run can reach systemd",
        )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    import subprocess  # for the first job of a boot alone

    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _move_aside(directory: str) -> None:
    aside = f"{directory}/keeper"
    with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
        processes = file.read().split()
    if not processes:
        return
    os.makedirs(aside, exist_ok=True)
    for process in processes:
        with open(f"{aside}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(process)
