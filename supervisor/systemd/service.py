"""Putting jobsup's two units in place, and taking them away.

Both can be done again at any time, also while jobs run: `install` rewrites the units and restarts
the daemon alone (after an upgrade, say), `uninstall` refuses to end jobs unless it is told to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ..daemon.settings import LIB, RUN
from ..errors import HostNotSupported, JobsupError, WrongState

DIRECTORY = Path("/etc/systemd/system")
DAEMON = "jobsup.service"
KEEPER = "jobsup-keeper.service"
UNITS = (KEEPER, DAEMON)


def install(*, start: bool = True) -> list[str]:
    """Write the units; enable and start the daemon, or restart it. What was done, a line each.

    Args:
        start: False writes and enables them only, for a host that is to be booted.

    Raises:
        HostNotSupported: not root, or no systemd.
        JobsupError: systemd could not do it; the daemon did not become ready.
    """
    _demand_root_and_systemd(running=start)
    done = [f"wrote {_write(unit)}" for unit in UNITS]
    _systemctl("enable", "--quiet", DAEMON)  # links only: it needs no systemd that runs
    if start:
        _systemctl("daemon-reload")
        # Returns when the daemon says that it is ready. Not the keeper: its jobs would end.
        _systemctl("restart", DAEMON)
        done.append(f"{DAEMON} is enabled, and ready")
    return done


def uninstall(*, force: bool = False, purge: bool = False) -> list[str]:
    """Stop the daemon and the keeper and remove their units. What was done, a line each.

    Args:
        force: also while jobs run, which end with the keeper.
        purge: remove all records and output too.

    Raises:
        HostNotSupported: not root, or no systemd.
        WrongState: jobs run; nothing was changed.
        JobsupError: systemd could not do it.
    """
    _demand_root_and_systemd(running=True)
    if not force and _jobs_run():
        raise WrongState(
            "jobs are running, which would end",
            hint="jobsup control terminate, or jobsup uninstall --force",
        )
    done = []
    if _exists(DAEMON):
        _systemctl("disable", "--quiet", "--now", DAEMON)
    if _exists(KEEPER):
        _systemctl("stop", KEEPER)
    units = [DIRECTORY / unit for unit in UNITS]
    for path in (*units, RUN, *([LIB] if purge else [])):
        if _removed(path):
            done.append(f"removed {path}")
    _systemctl("daemon-reload")
    return done


def _removed(path: Path) -> bool:
    """Remove a file or a directory with all in it; whether it was there."""
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    return False


def text(unit: str, interpreter: str = sys.executable) -> str:
    """A unit file as it is written: this very interpreter runs the daemon."""
    template = (Path(__file__).parent / unit).read_text(encoding="utf-8")
    # -I: root imports nothing from where it stands or from PYTHONPATH.
    return template.replace("{program}", f"{_quoted(interpreter)} -I -m jobsup")


def _quoted(path: str) -> str:
    """A path as the first word of ExecStart=, where "%" begins a specifier; systemd.service(5).

    Raises:
        HostNotSupported: systemd takes no such path, however it is quoted.
    """
    if not path.isprintable() or any(character in path for character in "\\\"'"):
        raise HostNotSupported(
            f"systemd runs nothing at the path {path!r}", hint="install jobsup at a plainer place"
        )
    return '"' + path.replace("%", "%%") + '"'


def _write(unit: str) -> Path:
    """Whole or not at all, and readable by all as a unit has to be."""
    path = DIRECTORY / unit
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{unit}.new")
    new.write_text(text(unit), encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)
    return path


def _demand_root_and_systemd(*, running: bool) -> None:
    if os.geteuid() != 0:
        raise HostNotSupported("only root can change the host's units", hint="sudo jobsup …")
    if running and not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        raise HostNotSupported(
            "systemd does not run this host",
            hint="jobsup serve, under whatever starts services here",
        )


def _jobs_run() -> bool:
    """Whether the keeper holds more than the process that sleeps."""
    return _shown(KEEPER, "TasksCurrent") not in ("", "[not set]", "0", "1")


def _exists(unit: str) -> bool:
    return _shown(unit, "LoadState") == "loaded"


def _shown(unit: str, what: str) -> str:
    return _systemctl("show", "--property", what, "--value", unit).strip()


def _systemctl(*arguments: str) -> str:
    """What it printed.

    Raises:
        JobsupError: it failed, with its own words.
    """
    result = subprocess.run(
        ["systemctl", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if result.returncode != 0:
        said = " ".join(result.stderr.split()) or f"status {result.returncode}"
        raise JobsupError(
            f"systemctl {' '.join(arguments)}: {said}", hint=f"journalctl -u {arguments[-1]}"
        )
    return result.stdout
