"""What this host has of what jobs need; isolation asks it, and this is where others find it."""

from __future__ import annotations

from jobsup.isolation import Finding, examine

__all__ = ["Finding", "examine"]
