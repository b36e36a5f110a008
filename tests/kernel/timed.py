"""Jobs whose time is over, but not before they have come as far as their test needs.

A limit runs from the first instruction of the command, and nobody knows how long a shell then takes
until its trap is set. So a job that was ended before it had said so is run again with more time.
"""

from __future__ import annotations

from typing import Any

from jobsup.supervisor.verdict import Verdict
from tests.kernel.jobs import Argv, run_here

LIMITS = ("300ms", "3s", "30s")


def run_timed(argv: Argv, told: bytes, **options: Any) -> tuple[Verdict, bytes, bytes]:  # noqa: ANN401
    """Run a job with the first of LIMITS in which its stdout begins so: verdict, stdout, stderr."""
    for limit in LIMITS:
        verdict, stdout, stderr = run_here(argv, time=limit, **options)
        if stdout.startswith(told):
            return verdict, stdout, stderr
    raise AssertionError(f"within {LIMITS[-1]} it said {stdout[:1000]!r} alone: {stderr!r}")
