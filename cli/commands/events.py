"""`jobsup events`: what happens to jobs, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import render
from ..client import all_jobs, command, json_option, socket_option, until_there

if TYPE_CHECKING:
    from jobsup.supervisor.protocol import Event

    from ..core import Core


@command("events")
@click.option(
    "--job", metavar="JOB", shell_complete=all_jobs, help="Only what happens to this one."
)
@json_option
@socket_option
@click.pass_obj
def events(core: Core, job: str | None, as_json: bool, socket: str | None) -> None:
    """Show each change of a job's state from now on, until interrupted.

    A daemon that is being restarted is waited for. When it goes away later the command ends with an
    error, since what happens meanwhile is not told to anybody.
    """
    from ..objects import line

    with core.supervisor(socket) as supervisor:
        until_there(supervisor)
        for event in supervisor.events(job):
            click.echo(line(event) if as_json else _shown(event))


def _shown(event: Event) -> str:
    who = f"{event.id} ({event.name})" if event.name else event.id
    again = f" attempt {event.attempt}" if event.attempt > 1 else ""
    end = f" ({event.cause}, {event.status})" if event.cause is not None else ""
    why = f": {event.reason}" if event.reason else ""
    return render.safe(f"{event.time} {who}{again} {event.state}{end}{why}")
