"""What the commands have done for them: the one seam between the command line and the rest.

Each method imports what it calls when it is called, so that a command pays for nothing else. Tests
hand the commands an object of their own instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsup.supervisor.doctor import Finding
    from jobsup.supervisor.spec import Spec
    from jobsup.supervisor.verdict import Verdict


class Core:
    """The real thing, on this host."""

    def describe(self, spec: Spec) -> Sequence[str]:
        """The plan of the job, a line a step; nothing is created."""
        from jobsup.supervisor import embedded

        return embedded.describe(spec)

    def run_foreground(self, spec: Spec, *, stdin: bool = True) -> Verdict:
        """Run the job to its end on this process's own stdin (or an empty one), stdout, stderr and
        signals."""
        from jobsup.supervisor import foreground

        return foreground.run_foreground(spec, stdin=stdin)

    def examine(self) -> Sequence[Finding]:
        """What this host has of what jobs need."""
        from jobsup.supervisor import doctor

        return doctor.examine()
