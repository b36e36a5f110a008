"""What this host has of what jobs need, for who may not look themselves: most of it is root's to
try, in children and in a cgroup that are gone afterwards.

A look takes some processes. So it is taken when somebody asks, by one at a time, and what it found
is told to all who ask within some seconds.
"""

from __future__ import annotations

import asyncio
import time

from ...protocol import Doctor, HostFinding

_FRESH = 10.0  # seconds


class HostLook:
    """The last look, if there was one."""

    def __init__(self) -> None:
        self._looking = asyncio.Lock()
        self._told: Doctor | None = None
        self._stale_at = 0.0

    async def told(self) -> Doctor:
        """What there is. To be seen through: two looks at once would be in each other's way."""
        async with self._looking:
            if self._told is None or time.monotonic() >= self._stale_at:
                self._told = await asyncio.to_thread(_look)
                self._stale_at = time.monotonic() + _FRESH
            return self._told


def _look() -> Doctor:
    from ...doctor import examine  # much that no job needs

    found = examine()
    ok = all(finding.ok is not False for finding in found)
    return Doctor(ok, [HostFinding(f.name, f.ok, f.found, f.remedy) for f in found])
