"""`jobsup serve`: the daemon, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobsup.supervisor.errors import BadValue

from ..client import command

if TYPE_CHECKING:
    from ..core import Core

# Options whose flag is not called as the daemon calls what it sets.
_FLAGS = {"memory": "budget_mem", "cpus": "budget_cpus"}


@command("serve")
@click.option(
    "--socket",
    metavar="PATH",
    envvar="JOBSUP_SOCKET",
    help="Where it is asked; /run/jobsup/jobsup.sock unless said.",
)
@click.option(
    "--state",
    metavar="DIR",
    help="Keep everything here; in /var/lib/jobsup and /run/jobsup unless said.",
)
@click.option(
    "--max-running",
    metavar="N",
    help="So many jobs at once, the others queue; a sixth of the descriptors that the daemon may "
    "open (ulimit -n) unless said, and never more.",
)
@click.option("--budget-mem", "memory", metavar="SIZE", help="Sum of the --mem of running jobs.")
@click.option("--budget-cpus", "cpus", metavar="N", help="Sum of the --cpus of running jobs.")
@click.option("--keep", metavar="TIME", help="Forget jobs so long after their end; 7d unless said.")
@click.option(
    "--owner-jobs", metavar="N", help="Unfinished jobs a user may have; 1000 unless said."
)
@click.option(
    "--owner-bytes", metavar="SIZE", help="Output that is kept for a user; 10G unless said."
)
@click.option(
    "--owner-followers", metavar="N", help="Readers of output a user may have; 64 unless said."
)
@click.option(
    "--stdin-max", metavar="SIZE", help="Largest stdin that is kept for a job; 1G unless said."
)
@click.option(
    "--connections",
    metavar="N",
    help="Of clients, at once; 2000 unless said, and fewer where descriptors are.",
)
@click.pass_obj
def serve(core: Core, /, **options: str | None) -> int:
    """Be the daemon that jobs are handed to; stays in the foreground until SIGTERM or SIGINT.

    When it goes, its jobs go on, and the next daemon of the same state takes them up again. As a
    service of systemd: `jobsup install`.
    """
    try:
        return core.serve(options)
    except BadValue as error:
        field = _FLAGS.get(error.field, error.field)
        raise BadValue(field, error.value, error.why, error.remedy) from None
