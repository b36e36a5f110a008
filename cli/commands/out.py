"""`jobsup out`: what a job wrote, byte for byte."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from jobsup.supervisor.errors import BadValue

from ..client import command, job_argument, socket_option, until_there, whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypedDict

    from jobsup.supervisor.client.blocking import Stream
    from jobsup.supervisor.client.follow import Frame

    from ..core import Core

    class Wanted(TypedDict):
        follow: bool
        since: str | None
        tail: int | None
        attempt: int | None


_SINCE = "10m (ago), or 2026-12-01T02:00:00Z"
_CLOSED = 141  # as a program that SIGPIPE ends: who read our output wanted no more


@command("out")
@job_argument()
@click.option(
    "-f", "--follow", is_flag=True, help="Go on until the job has ended, also when it is run again."
)
@click.option(
    "--stream", type=click.Choice(["stdout", "stderr"]), help="Only this one, on our stdout."
)
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time, in UTC.")
@click.option(
    "--since", metavar="TIME", help="Only what came since: 10m (ago), or 2026-12-01T02:00:00Z."
)
@click.option("-n", "--tail", metavar="N", type=whole("tail", 0), help="Only the last N lines.")
@click.option(
    "--attempt",
    metavar="N",
    type=whole("attempt", 1),
    help="Which run alone; the last unless said.",
)
@socket_option
@click.pass_obj
def out(
    core: Core,
    /,
    ref: str,
    stream: Stream | None,
    timestamps: bool,
    socket: str | None,
    follow: bool,
    since: str | None,
    tail: int | None,
    attempt: int | None,
) -> int:
    """Write what a job has written: its stdout to ours and its stderr to ours, in its order.

    The bytes are the job's own, whatever they are. With --follow a restart of the daemon is waited
    for, and nothing is lost or repeated. Each run of a job that restarts follows the one before; a
    job with --every has no end of its own.
    """
    wanted: Wanted = {"follow": follow, "since": since, "tail": tail, "attempt": attempt}
    sys.stdout.flush()
    with core.supervisor(socket) as supervisor:
        if follow:
            until_there(supervisor)
        job = supervisor.job(ref)
        try:
            if stream is not None and not timestamps:
                for data in job.output(stream, **wanted):
                    _write(1, data)
            else:
                frames = job.frames(stream, **wanted)
                _write_frames(frames, stream is not None, timestamps)
        except BrokenPipeError:
            return _CLOSED
        except BadValue as error:
            if error.field != "since":
                raise
            # The daemon names the form that it took the value for; there are two.
            raise BadValue("since", since, "is no time and no duration", _SINCE) from None
    return 0


def _write_frames(frames: Iterable[Frame], one: bool, timestamps: bool) -> None:
    targets = {"stdout": 1, "stderr": 1 if one else 2}
    begun = dict.fromkeys(targets, False)  # whether a line of the stream is not at its end
    for frame in frames:
        data = frame.data
        if timestamps:
            data = _stamped(data, frame.time_ns, begun[frame.stream])
            begun[frame.stream] = not data.endswith(b"\n")
        _write(targets[frame.stream], data)


def _stamped(data: bytes, time_ns: int, begun: bool) -> bytes:
    """The bytes with the time at the beginning of each line."""
    from jobsup.supervisor.verdict import rfc3339

    mark = f"{rfc3339(time_ns)} ".encode()
    lines = _lines(data)
    return b"".join(
        line if begun and number == 0 else mark + line for number, line in enumerate(lines)
    )


def _lines(data: bytes) -> list[bytes]:
    """Only a newline ends one."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
