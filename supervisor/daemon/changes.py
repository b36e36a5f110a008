"""`jobsup set`: other limits for a job that there is already."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from jobsup.isolation import Knob, Limits

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
        BadValue: an option that is none, cannot be changed, contradicts another, or would only
            seem to be taken back.
    """
    given = from_plain(options)
    for option, value in given.items():
        if option not in CHANGEABLE:
            known = ", ".join(sorted(CHANGEABLE))
            why = "cannot be changed once the job is there"
            raise BadValue(option, value, why, f"what can be: {known}")
    before = job.request.spec
    # Checked as a whole, as if the job were asked for anew.
    asked = {**from_plain(plain(before)), **given}
    with from_elsewhere():
        after = Spec.make(asked.pop("argv"), **asked)
    record = job.record
    caller = Caller(record.uid, record.gid, record.groups, job.request.environment)
    old, new = (
        translate(spec, record.id, caller, hidden=paths.hidden)[1] for spec in (before, after)
    )
    if job.handle is not None:
        _refuse_withdrawal(old, new._replace(knobs=(*new.knobs, *_lifted(old, new))))
    knobs = tuple(knob for knob in (*new.knobs, *_lifted(old, new)) if knob not in old.knobs)
    devices = tuple(limit for limit in new.io if limit not in old.io)
    return dataclasses.replace(job.request, spec=after), Limits(knobs, devices)


# What a limit of memory implies (see translate), and the kernel's own value of it.
_IMPLIED = {"memory.swap.max": "max", "memory.oom.group": "0"}


def _lifted(old: Limits, new: Limits) -> tuple[Knob, ...]:
    """What takes back that which a limit of memory implied, when that is lifted."""
    files = {knob.file: knob for knob in new.knobs}
    memory = files.get("memory.max")
    if memory is None or memory.value != "max":
        return ()
    gone = [knob for knob in old.knobs if knob.file in _IMPLIED and knob.file not in files]
    return tuple(knob._replace(value=_IMPLIED[knob.file]) for knob in gone)


# How a limit is lifted, by its option.
_LIFTS = {
    **{option: f"{{{option}=max}} lifts it" for option in ("mem", "mem_high", "swap", "cpus")},
    "mem_low": "{mem_low=0} is none",
    "cpu_weight": "{cpu_weight=100} is everybody's",
    "io_weight": "{io_weight=100} is everybody's",
}


def _refuse_withdrawal(old: Limits, new: Limits) -> None:
    """What is no longer asked for would stay in the leaf all the same: nobody writes there what
    was there before jobsup did."""
    why = "cannot be taken back while the job is there"
    files = {knob.file for knob in new.knobs}
    for knob in old.knobs:
        if knob.file not in files:
            remedy = _LIFTS.get(knob.flag, "give another value")
            raise BadValue(knob.flag, f"{knob.file}={knob.value}", why, remedy)
    for limit in old.io:
        kept = [other for other in new.io if other.target == limit.target]
        for rate in ("rbps", "wbps", "riops", "wiops"):
            said = any(getattr(other, rate) is not None for other in kept)
            if getattr(limit, rate) is not None and not said:
                shown = f"{os.fsdecode(limit.target)}:{rate}={getattr(limit, rate)}"
                raise BadValue("io_max", shown, why, f"{rate}=max lifts it")
