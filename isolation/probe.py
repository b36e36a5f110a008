"""What this host can enforce: the findings of `jobsup doctor`.

Each finding is made by asking the kernel for the thing itself, never by its version where the
thing can be tried. Nothing is changed on the host.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `ok` is None for something that is missing but not needed by every job."""

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None


def examine() -> list[Finding]:
    """Everything that doctor tells, in the order of telling."""
    return []
