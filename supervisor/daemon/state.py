"""The life of a job as one table: what may follow what. Everything else asks here.

    queued ──▶ starting ──▶ running ⇄ paused
      │ ▲          │           │        │
      │ └──────────┼───────────┴────────┤     another attempt (restart, every), or a launch that
      │            │                    │     a crash of the daemon cut short before its clone
      │            ├──▶ stopping ◀──────┤
      ▼            ▼        ▼           ▼
        completed │ failed │ stopped │ lost

An illegal move raises and changes nothing. `completed` is exit 0; `failed` every other end of the
job's own, could not start included; `stopped` an end by request; `lost` one that cannot be known.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is. The value is its name in the API and in the records."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


ENDED = frozenset({State.COMPLETED, State.FAILED, State.STOPPED, State.LOST})

_AFTER: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING}) | ENDED - {State.COMPLETED},
    State.STARTING: frozenset({State.QUEUED, State.RUNNING, State.STOPPING}) | ENDED,
    State.RUNNING: frozenset({State.QUEUED, State.PAUSED, State.STOPPING}) | ENDED,
    State.PAUSED: frozenset({State.QUEUED, State.RUNNING, State.STOPPING}) | ENDED,
    # What was asked to stop is not started again, whatever its restart policy.
    State.STOPPING: ENDED,
    **dict.fromkeys(ENDED, frozenset[State]()),
}


class IllegalMove(Exception):
    """A bug: something wanted a job to go where it cannot go from where it is."""


def move(present: State, following: State) -> State:
    """The state that follows.

    Raises:
        IllegalMove: it may not.
    """
    if following not in _AFTER[present]:
        raise IllegalMove(f"from {present.value} to {following.value}")
    return following
