"""Where a process of ours kills itself, when a test asks for it: crash tests without luck.

JOBSUP_KILL_AT="name" or "name:count" in the environment ends the process with SIGKILL when it comes
to that point for the first time, or for the count-th. It is read once, on import. Without it a
point costs a comparison. tests/crash/points.py says what each point means, and a test sees to it
that none is missing there.
"""

from __future__ import annotations

import os
import signal
from _thread import allocate_lock

_armed, _, _count = os.environ.get("JOBSUP_KILL_AT", "").partition(":")
_left = int(_count or 1)
_lock = allocate_lock()


def reached(name: str) -> None:
    """The point `name`: end here, when that was asked for."""
    global _left
    if name != _armed:
        return
    with _lock:  # several threads may launch at once
        _left -= 1
        last = _left == 0
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
