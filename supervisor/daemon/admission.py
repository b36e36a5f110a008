"""How many jobs run at a time, and with how much of the host: places are taken and given back.

A job is admitted when there is a free place, and when its own limits fit into what the budget has
left. Limits, not use, are counted: what was promised to a job is there when it wants it. So with a
memory budget a job must say --mem, and with a CPU budget --cpus. Jobs start in the order in which
they became due; one that does not fit holds up those behind it, or it might wait for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from ..errors import BadValue
from ..spec import Spec
from ..units import CpuMax, format_size


class Demand(NamedTuple):
    """What one job takes: bytes of memory, processors."""

    memory: int = 0
    cpus: float = 0.0


def demand_of(spec: Spec) -> Demand:
    """What the job's limits promise it."""
    cpus = spec.cpus.quota_usec / spec.cpus.period_usec if isinstance(spec.cpus, CpuMax) else 0.0
    return Demand(spec.mem if isinstance(spec.mem, int) else 0, cpus)


class Admission:
    """The places of one daemon, and the queue for them, by job id."""

    def __init__(self, max_running: int | None, memory: int | None, cpus: float | None) -> None:
        self._max_running = max_running
        self._memory = memory
        self._cpus = cpus
        self._taken: dict[str, Demand] = {}
        self._waiting: OrderedDict[str, Demand] = OrderedDict()

    @property
    def running(self) -> int:
        return len(self._taken)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def require_possible(self, spec: Spec) -> None:
        """Refuse what could never start.

        Raises:
            BadValue: the budget needs a limit that is not given, or is smaller than it.
        """
        if self._memory is not None:
            if not isinstance(spec.mem, int):
                why = "must be given: this supervisor has a memory budget"
                raise BadValue("mem", spec.mem, why, f"at most {{mem={format_size(self._memory)}}}")
            if spec.mem > self._memory:
                why = f"is more than this supervisor's memory budget, {format_size(self._memory)}"
                raise BadValue("mem", format_size(spec.mem), why)
        if self._cpus is not None:
            if not isinstance(spec.cpus, CpuMax):
                why = "must be given: this supervisor has a CPU budget"
                raise BadValue("cpus", spec.cpus, why, f"at most {{cpus={self._cpus:g}}}")
            if (asked := demand_of(spec).cpus) > self._cpus:
                why = f"is more than this supervisor's CPU budget, {self._cpus:g}"
                raise BadValue("cpus", f"{asked:g}", why)

    def take(self, job_id: str, demand: Demand) -> bool:
        """Take a place if there is one and nobody waits for it; whether it was taken."""
        if self._waiting or not self._fits(demand):
            return False
        self._taken[job_id] = demand
        return True

    def enter(self, job_id: str, demand: Demand) -> bool:
        """Take a place, or stand in the queue; whether a place was taken."""
        taken = self.take(job_id, demand)
        if not taken:
            self._waiting[job_id] = demand
        return taken

    def force(self, job_id: str, demand: Demand) -> None:
        """Count a job that runs already, adopted after a restart."""
        self._taken[job_id] = demand

    def leave(self, job_id: str) -> None:
        """Give the place back, in the queue or beyond it."""
        self._taken.pop(job_id, None)
        self._waiting.pop(job_id, None)

    def next_admitted(self) -> str | None:
        """The first of the queue, its place taken; None while it does not fit."""
        if not self._waiting:
            return None
        job_id, demand = next(iter(self._waiting.items()))
        if not self._fits(demand):
            return None
        del self._waiting[job_id]
        self._taken[job_id] = demand
        return job_id

    def change(self, job_id: str, demand: Demand) -> None:
        """A job's limits were changed: what was promised counts, whether it fits or not."""
        for held in (self._taken, self._waiting):
            if job_id in held:
                held[job_id] = demand

    def _fits(self, demand: Demand) -> bool:
        if self._max_running is not None and len(self._taken) >= self._max_running:
            return False
        if self._memory is not None:
            used = sum(taken.memory for taken in self._taken.values())
            if used + demand.memory > self._memory:
                return False
        if self._cpus is not None:
            used_cpus = sum(taken.cpus for taken in self._taken.values())
            # A thousandth is the smallest share that can be asked for; sums of floats are inexact.
            if used_cpus + demand.cpus > self._cpus + 0.0005:
                return False
        return True
