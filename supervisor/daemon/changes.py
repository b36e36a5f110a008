"""`jobsup set`: other limits for a job that there is already."""

from __future__ import annotations

import dataclasses
from typing import Any

from jobsup.isolation import Limits

from ..errors import BadValue
from ..fields import from_elsewhere
from ..request import Request
from ..spec import Spec
from ..translate import Caller, translate
from ..wire import from_plain, plain
from .job import LiveJob
from .paths import Paths

# What can be changed under a job that runs: the files of its leaf.
CHANGEABLE = frozenset(
    {
        *("mem", "mem_high", "mem_low", "swap", "oom_group"),
        *("cpus", "cpu_weight", "cpuset", "pids", "io_max", "io_weight", "cgroup"),
    }
)


def changed_request(job: LiveJob, options: dict[str, Any], paths: Paths) -> tuple[Request, Limits]:
    """The request with these options in the place of its own, and what to write into the leaf.

    Raises:
        BadValue: an option that is none, cannot be changed, or contradicts another.
    """
    if not options:
        raise BadValue("options", options, "change nothing", "one of mem, cpus, pids …")
    for option, value in options.items():
        if option not in CHANGEABLE:
            known = ", ".join(sorted(CHANGEABLE))
            why = "cannot be changed once the job is there"
            raise BadValue(option, value, why, f"what can be: {known}")
    before = job.request.spec
    # Checked as a whole, as if the job were asked for anew.
    asked = {**from_plain(plain(before)), **from_plain(options)}
    with from_elsewhere():
        after = Spec.make(asked.pop("argv"), **asked)
    record = job.record
    caller = Caller(record.uid, record.gid, record.groups, job.request.environment)
    old, new = (
        translate(spec, record.id, caller, hidden=paths.hidden)[1] for spec in (before, after)
    )
    knobs = tuple(knob for knob in new.knobs if knob not in old.knobs)
    devices = tuple(limit for limit in new.io if limit not in old.io)
    return dataclasses.replace(job.request, spec=after), Limits(knobs, devices)
