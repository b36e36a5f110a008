"""Whether a process rests: none of its threads ran for some time.

Processor time is no measure of it. It is counted in ticks, which hit whoever runs; and on a slow
machine work that was asked for long ago goes on for seconds. Whether a thread was switched to is
counted exactly, and what still goes on is waited for: the claim is that rest comes, and lasts.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.machine import PATIENCE

Turns = dict[str, tuple[str, ...]]


def turns(*pids: int | None) -> Turns:
    """Of each thread: its state, and how often it gave up its processor and lost it."""
    found = {}
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended just now
                found[thread] = _turns(Path(f"/proc/{pid}/task/{thread}/status").read_text())
    return found


def _turns(status: str) -> tuple[str, ...]:
    facts = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    return (
        facts["State"].strip()[0],
        facts["voluntary_ctxt_switches"],
        facts["nonvoluntary_ctxt_switches"],
    )


def wait_resting(*pids: int | None, seconds: float = 1) -> None:
    """Until for so long no thread of these processes has run, nor wanted to."""
    deadline = time.monotonic() + PATIENCE
    before = turns(*pids)
    while True:
        time.sleep(seconds)  # it is the time itself that is looked at
        after = turns(*pids)
        if after == before and {state for state, *_ in after.values()} == {"S"}:
            return
        assert time.monotonic() < deadline, f"no rest: {before} became {after}"
        before = after
