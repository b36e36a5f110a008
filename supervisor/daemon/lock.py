"""One daemon a state directory: whoever has the lock. It goes with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ..errors import AlreadyRunning

_PATIENCE = 5.0  # seconds for a lock whose holder is dead
_PAUSE = 0.02


class StateLock:
    """flock(2) on a file that names its holder's pid.

    A daemon that is killed while it launches leaves the lock to the child of its vfork, which has
    all of its descriptors until it executes the init: the lock is free a moment after its death.

    Raises:
        AlreadyRunning: another daemon has it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE
        while not self._taken():
            pid = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            if _lives(pid) or time.monotonic() > deadline:
                os.close(self._descriptor)
                raise AlreadyRunning(
                    f"a daemon with pid {pid or 'unknown'} uses {path.parent} already",
                    hint="stop that one, or give this one another --state",
                )
            time.sleep(_PAUSE)  # waiting for the lock itself could be for another daemon's
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let another daemon have it. The file stays: an unlinked one could be locked twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _lives(pid: str) -> bool:
    return pid.isdecimal() and Path("/proc", pid).exists()
