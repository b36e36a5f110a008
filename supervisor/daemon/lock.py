"""One daemon a state directory: whoever has the lock. It goes with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import AlreadyRunning


class StateLock:
    """flock(2) on a file that names its holder's pid.

    Raises:
        AlreadyRunning: another daemon has it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"a daemon with pid {pid or 'unknown'} uses {path.parent} already",
                hint="stop that one, or give this one another --state",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another daemon have it. The file stays: an unlinked one could be locked twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
