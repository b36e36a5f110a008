"""When a job may start: the first time, and again after it has ended.

    --after      a duration from now; it goes on running while the daemon is down, and ends at most
                 as late as it would have, however the wall clock is set meanwhile
    --at         a time of day; one that passed while the daemon was down has come
    --every      the next match of the cron expression after the last run has ended; of those that
                 passed while the daemon was down one is made up for
    --restart    after a pause that doubles from 1 s to 60 s, and is 1 s again after a run of 10 s

What was asked to stop is not started again.
"""

from __future__ import annotations

from typing import NamedTuple

from ..request import Request
from ..times import next_time
from .records import Record
from .state import State

_SECOND = 10**9
_FIRST_PAUSE, _LONGEST_PAUSE = 1 * _SECOND, 60 * _SECOND
_LONG_RUN = 10 * _SECOND


class Due(NamedTuple):
    """When a queued job may start: `when_ns` of CLOCK_REALTIME. `delay_ns` is the duration that
    was asked for, None for a time of day."""

    when_ns: int
    delay_ns: int | None
    reason: str


def first_due(request: Request, now_ns: int) -> Due | None:
    """When a new job may start; None: now."""
    if request.after is not None:
        delay = request.after * 1000
        return Due(now_ns + delay, delay, "waits for its time")
    if request.at is not None:
        return Due(request.at, None, "waits for its time")
    if request.every is not None:
        return Due(next_time(request.every, now_ns), None, "waits for its time")
    return None


def next_due(record: Record, request: Request, now_ns: int, pauses: int) -> Due | None:
    """When a job whose run has ended, with record.verdict, may start again; None: never.

    Args:
        pauses: how many restarts came one after the other without a long run in between.
    """
    state = State((record.verdict or {}).get("state", State.FAILED.value))
    # The verdict says it too, where the record that said so was lost.
    if record.stop is not None or state is State.STOPPED or record.attached:
        return None
    if request.every is not None:
        return Due(next_time(request.every, now_ns), None, "waits for its time")
    again = request.restart.kind == "always" or (
        request.restart.kind == "on-failure"
        and state is not State.COMPLETED
        and (request.restart.limit is None or record.attempt <= request.restart.limit)
    )
    if not again:
        return None
    pause = min(_FIRST_PAUSE << min(pauses, 6), _LONGEST_PAUSE)
    return Due(now_ns + pause, pause, f"restarts after a pause of {pause // _SECOND} s")


def was_long(record: Record) -> bool:
    """Whether the run that has ended was one after which pauses are short again."""
    if record.started_ns is None or record.ended_ns is None:
        return False
    return record.ended_ns - record.started_ns >= _LONG_RUN


def due_again(record: Record, request: Request, now_ns: int) -> Due | None:
    """The same for a queued job of which a restarted daemon knows only what was recorded."""
    if record.due_ns is None:
        return None
    reason = record.reason or "waits for its time"
    if request.every is not None or (request.at is not None and record.attempt == 1):
        return Due(record.due_ns, None, reason)
    # A clock that was set back while nobody looked must not make it wait for longer than asked.
    most = (request.after or 0) * 1000 if record.attempt == 1 else _LONGEST_PAUSE
    delay = min(max(record.due_ns - now_ns, 0), most)
    return Due(now_ns + delay, delay, reason)
