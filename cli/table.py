"""Jobs as a table: as wide as the terminal, or as it needs to be where it goes elsewhere."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime

import click

from jobsup.supervisor.protocol import ENDED, JobSummary

from . import render

_NAME_MOST, _NAME_LEAST = 24, 6
_COMMAND_LEAST = 12


def show(jobs: Sequence[JobSummary]) -> None:
    """A heading, and a line for each job; the command has what room is left, and where that is
    little, names are cut for it."""
    now = time.time()
    others = len({job.user for job in jobs}) > 1 or os.geteuid() == 0
    rows: list[tuple[str, ...]] = [("ID", "NAME", "USER", "STATE", "WHEN", "COMMAND")]
    rows += [_row(job, now) for job in jobs]
    if not others:
        rows = [(*row[:2], *row[3:]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    room = _room(sum(widths) + 2 * len(widths))
    if room is not None and room < _COMMAND_LEAST:
        cut = min(_COMMAND_LEAST - room, max(widths[1] - _NAME_LEAST, 0))
        widths[1] -= cut
        room = max(room + cut, 1)
    for row in rows:
        cells = [
            f"{render.shortened(cell, width):{width}}"
            for cell, width in zip(row, widths, strict=False)
        ]
        last = row[-1] if room is None else render.shortened(row[-1], room)
        click.echo("  ".join([*cells, last]).rstrip())


def _room(taken: int) -> int | None:
    """Columns for the command; None for as many as it has."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns - taken


def _row(job: JobSummary, now: float) -> tuple[str, ...]:
    name = render.shortened(render.safe(job.name or "-"), _NAME_MOST)
    return job.id, name, render.safe(job.user), _state(job), _when(job, now), command(job.argv)


def command(argv: Sequence[str]) -> str:
    """A command line as a shell would take it, without what would move a cursor."""
    return render.safe(shlex.join(argv))


def _state(job: JobSummary) -> str:
    """And what it came from: the cause, or the exit code."""
    if job.state == "failed" and job.cause is not None:
        return f"failed ({job.status if job.cause == 'exited' else job.cause})"
    if job.state == "stopped" and job.cause == "killed":
        return "stopped (killed)"
    return job.state


def _when(job: JobSummary, now: float) -> str:
    if job.state in ENDED:
        return f"{age(job.ended_at or job.queued_at, now)} ago"
    if job.due_at is not None and (left := until(job.due_at, now)):
        return left
    return age(job.started_at or job.queued_at, now)


def age(stamp: str, now: float) -> str:
    """How long ago a time of the API's was, in its largest unit: "5m"."""
    return _largest(int(now - datetime.fromisoformat(stamp).timestamp()))


def until(stamp: str, now: float) -> str | None:
    """How far ahead a time of the API's is: "in 5m"; None when it has come."""
    seconds = math.ceil(datetime.fromisoformat(stamp).timestamp() - now)
    return f"in {_largest(seconds)}" if seconds > 0 else None


def _largest(seconds: int) -> str:
    seconds = max(seconds, 0)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (unit == "m" and seconds >= size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
