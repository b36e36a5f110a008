"""Where a daemon keeps things.

<lib>/lock, <lib>/jobs.db   one daemon's claim to them, and its records
<lib>/jobs/<id>/            the files of one job (launcher)
<lib>/incoming/             input that is being uploaded
<run>/control/<id>          sockets of the inits
<run>/records/<id>          the records of their jobs
"""

from __future__ import annotations

import os
from pathlib import Path

from ..translate import HIDDEN


class Paths:
    """The places below one daemon's two directories; `make` makes them."""

    def __init__(self, lib: Path, run: Path) -> None:
        self.lib = lib
        self.run = run
        self.lock = lib / "lock"
        self.database = lib / "jobs.db"
        self.jobs = lib / "jobs"
        self.incoming = lib / "incoming"
        self.control = run / "control"
        self.records = run / "records"

    @property
    def hidden(self) -> tuple[bytes, ...]:
        """What no job may see: ours, and those of a daemon that keeps them at the usual places."""
        return tuple(dict.fromkeys((*HIDDEN, os.fsencode(self.lib), os.fsencode(self.run))))

    def job(self, job_id: str) -> Path:
        return self.jobs / job_id

    def spool(self, job_id: str, attempt: int) -> Path:
        return self.jobs / job_id / str(attempt)

    def make(self) -> None:
        """Make what is missing. Others pass through `run` to the socket, and see nothing in it."""
        _make_passable(self.run)
        _make_passable(self.lib.parent)
        private = (self.lib, self.control, self.records)
        for directory in (*private, self.jobs, self.incoming):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run.chmod(0o711)
        for directory in private:
            directory.chmod(0o700)


def _make_passable(directory: Path) -> None:
    """Make it and what is missing above it, whatever the umask says. What is there stays as it is:
    who made it knew whom to let through."""
    if not directory.exists():
        _make_passable(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o711)


def boot_id() -> str:
    """The kernel's name for this boot; random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
