"""`jobsup ls`: the daemon's jobs, a line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from jobsup.supervisor.protocol import ENDED, UNFINISHED, JobSummary

from ..client import command, socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Supervisor

    from ..core import Core

# In the order of a life: who asks for one after the other misses no job that moves on meanwhile.
_STATES = (*UNFINISHED, *ENDED)


@command("ls")
@click.option("-a", "--all", "everything", is_flag=True, help="Ended jobs as well.")
@click.option(
    "--state", "states", multiple=True, metavar="STATE", type=click.Choice(_STATES),
    help="Only jobs in this state; may be given again.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Only jobs of this name, ended ones as well.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--json", "as_json", is_flag=True, help="JSON, an object a line.")
@socket_option
@click.pass_obj
def ls(
    core: Core,
    everything: bool,
    states: tuple[str, ...],
    name: str | None,
    quiet: bool,
    as_json: bool,
    socket: str | None,
) -> None:
    """List jobs, the newest first: those that have not ended, or all of them with --all.

    \b
    STATE is queued, starting, running, paused, stopping, or for jobs that have ended
    completed, failed, stopped, lost.
    """
    with core.supervisor(socket) as supervisor:
        everything = everything or name is not None
        wanted = states or (() if everything else UNFINISHED)
        found = _jobs(supervisor, wanted, name)
        if quiet:
            for job in found:
                click.echo(job.id)
        elif as_json:
            _as_lines(found)
        else:
            from ..table import show

            show(list(found))


def _jobs(
    supervisor: Supervisor, states: tuple[str, ...], name: str | None
) -> Iterable[JobSummary]:
    if len(states) < 2:
        return supervisor.jobs(state=states[0] if states else None, name=name)
    found: dict[str, JobSummary] = {}
    for state in sorted(states, key=_STATES.index):
        # One that has moved on is found again, and is then what it is now.
        found.update((job.id, job) for job in supervisor.jobs(state=state, name=name))
    return sorted(found.values(), key=lambda job: job.queued_at, reverse=True)


def _as_lines(jobs: Iterable[JobSummary]) -> None:
    """An object a line, as each page comes."""
    from ..objects import line

    for job in jobs:
        click.echo(line(job))
