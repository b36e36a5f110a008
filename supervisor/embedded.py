"""One job run by this very process, without a daemon: the core of `jobsup run` and `jobsup.run`.

The job lives no longer than this process: its init sees the control socket close, also after
kill -9, and ends everything. What is here turns a spec into a launched job and a record into a
verdict; moving bytes and signals meanwhile is conversation's, and what the two faces (command and
library) add is in foreground and library.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from jobsup.isolation import (
    Job,
    JobsupError,
    Streams,
    Walls,
    compile_plan,
    launch,
    locate,
    settle,
    sweep,
)

from .conversation import Party, converse
from .spec import Spec
from .translate import Caller, translate, user_name
from .verdict import Verdict, judge


def new_id() -> str:
    """An id of ours: it sorts by time and is never reused, on this host or another."""
    return f"{time.time_ns() // 1_000_000:011x}{os.urandom(4).hex()}"


class EmbeddedJob:
    """One job of this process, from launch to verdict."""

    def __init__(self, spec: Spec) -> None:
        """Raises BadValue for what the host does not know (users, groups)."""
        self.id = new_id()
        self._spec = spec
        self._walls, self._limits = translate(spec, self.id, Caller.current())
        self._asked_ns = time.time_ns()

    def launch(self, streams: Streams) -> Job:
        """Start it.

        Raises:
            JobsupError: as jobsup.isolation.launch gives it; nothing is left behind.
        """
        self._job = launch(self._walls, self._limits, self.id, streams)
        return self._job

    def see_through(self, parties: Sequence[Party]) -> Verdict:
        """Serve the job to its end. When that is cut short (an interrupt, an error), the job ends
        with it and nothing is left behind.

        Raises:
            LaunchFailed: a process of the job cannot be killed.
        """
        try:
            converse(self._job, parties)
        except BaseException:
            self._job.conclude()
            raise
        return self._judge()

    def _judge(self) -> Verdict:
        record = self._job.conclude()
        return judge(
            self._spec,
            self.id,
            record,
            self._job.limits,
            user=user_name(self._walls.identity.uid),
            program=self._walls.program,
            queued_ns=self._asked_ns,
            ended_ns=time.time_ns(),
        )


def describe(spec: Spec) -> list[str]:
    """What a run of this spec would do, one step a line: the leaf's limits, then the plan.

    Nothing is made, and no cgroup v2 is needed.

    Raises:
        JobsupError: what a run would refuse for its paths and names.
    """
    job_id = new_id()
    walls, limits = translate(spec, job_id, Caller.current())
    leaf = f"/sys/fs/cgroup/jobsup/jobs/{job_id}"
    lines = [f"set {knob.file} to {knob.value}" for knob in limits.knobs]
    for limit in limits.io:
        rates = ("rbps", "wbps", "riops", "wiops")
        asked = [f"{rate}={value}" for rate in rates if (value := getattr(limit, rate)) is not None]
        lines.append(f"set io.max of the disk of {os.fsdecode(limit.target)} to {' '.join(asked)}")
    return [*lines, *compile_plan(walls, os.fsencode(leaf)).describe(), *_watched(walls)]


def _watched(walls: Walls) -> list[str]:
    watch = walls.watch
    lines = []
    if watch.wall_ms is not None:
        lines.append(f"end it after {watch.wall_ms / 1000:g} s")
    if watch.cpu_usec is not None:
        lines.append(f"end it after {watch.cpu_usec / 1e6:g} s of CPU time")
    if watch.output_max is not None:
        lines.append(f"{watch.when_full.name.lower()} after {watch.output_max} bytes of output")
    return lines


def clear_stale() -> None:
    """Remove leaves whose init and starter were both killed, and what ended jobs asked of the
    groups above them. Failing at it harms no job."""
    with suppress(OSError, JobsupError):
        place = locate()  # and make nothing: the keeper may have been stopped on purpose
        sweep(place)
        settle(place)
