"""What the commands have done for them: the one seam between the command line and the rest.

Each method imports what it calls when it is called, so that a command pays for nothing else. Tests
hand the commands an object of their own instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobsup.supervisor.client.blocking import Supervisor
    from jobsup.supervisor.doctor import Finding
    from jobsup.supervisor.spec import Spec
    from jobsup.supervisor.verdict import Verdict

# Those of supervisor.protocol, which takes as long to import as a job takes to start.
SOCKET = "/run/jobsup/jobsup.sock"
SOCKET_VARIABLE = "JOBSUP_SOCKET"


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

    def run_attached(
        self,
        daemon: Supervisor,
        argv: Sequence[str],
        options: Mapping[str, Any],
        *,
        stdin: bool = True,
    ) -> Verdict:
        """As run_foreground, by a daemon."""
        from jobsup.supervisor.client import attached

        return attached.run_attached(daemon, argv, options, stdin=stdin)

    def examine(self) -> Sequence[Finding]:
        """What this host has of what jobs need."""
        from jobsup.supervisor import doctor

        return doctor.examine()

    def supervisor(self, socket: str | None = None, *, deadline: float | None = None) -> Supervisor:
        """A client of the daemon, which gives up when it hears nothing for `deadline` seconds;
        nothing is asked of it yet."""
        from jobsup.supervisor.client import blocking

        return blocking.Supervisor(blocking.socket_path(socket), deadline=deadline)

    def daemon_if_any(self, socket: str | None) -> Supervisor | None:
        """The daemon, where one answers.

        Raises:
            NoDaemon: none answers at a socket that was named.
        """
        named = socket or os.environ.get(SOCKET_VARIABLE)
        if not named and not os.path.exists(SOCKET):
            return None
        from jobsup.supervisor.client import blocking, errors

        found = self.supervisor(socket)
        try:
            found.give_back(blocking.connected(found.socket))
        except errors.NoDaemon:
            if named:
                raise
            return None
        return found

    def serve(self, options: Mapping[str, Any]) -> int:
        """Be the daemon; returns when it is told to end."""
        from jobsup.supervisor.daemon.serve import serve

        return serve(options)

    def install(self, *, start: bool) -> Sequence[str]:
        """Put the daemon's units in place; what was done."""
        from jobsup.supervisor import systemd

        return systemd.install(start=start)

    def uninstall(self, *, force: bool, purge: bool) -> Sequence[str]:
        """Take them away; what was done."""
        from jobsup.supervisor import systemd

        return systemd.uninstall(force=force, purge=purge)
