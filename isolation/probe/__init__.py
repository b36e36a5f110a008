"""What this host can enforce: the findings of `jobsup doctor`.

Each finding is made by asking the kernel for the thing itself, never by its version where the
thing can be tried: in a child that is gone afterwards (tried.py and its program trials.py), in a
cgroup that is (cgroups.py), or in this process where trying has no effect (host.py). Nothing is
changed on the host.
"""

from __future__ import annotations

import os

from .finding import Finding

__all__ = ["Finding", "examine"]


def examine() -> list[Finding]:
    """Everything that doctor tells, in the order of telling: who asks, cgroups, walls, numbers.

    Who is not root is told what can be read; namespaces and mounts are root's to try.
    """
    # Imported for who asks: every job goes through the door that this module belongs to.
    from . import cgroups, host, tried

    with cgroups.look() as place:
        groups = cgroups.findings(place)
        killing = place.trial is not None and all(f.ok for f in groups if f.name == "cgroup.kill")
        found = [host.kernel(works=killing), host.root()]
        if os.geteuid() != 0:
            return [*found, *groups, host.processes(), host.jobs_at_once(place)]
        return [
            *found,
            host.capabilities(),
            *groups,
            *tried.findings(),
            host.memfd(),
            host.init(place),
            host.overlay(),
            host.processes(),
            host.jobs_at_once(place),
        ]
