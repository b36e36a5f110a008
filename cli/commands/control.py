"""`jobsup control` and `jobsup ping`: the daemon itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..client import command, json_option, socket_option

if TYPE_CHECKING:
    from ..core import Core

_VERBS = {"ready": "start", "unready": "stop", "terminate": "terminate"}


@command("control")
@click.argument("state", required=False, type=click.Choice(list(_VERBS)))
@json_option
@socket_option
@click.pass_obj
def control(core: Core, state: str | None, as_json: bool, socket: str | None) -> None:
    """Show whether the daemon takes new jobs, or change it.

    \b
    ready      take new jobs
    unready    take no new jobs; those that it has go on
    terminate  take no new jobs, and end those that it has
    """
    with core.supervisor(socket) as supervisor:
        told = supervisor.control(_VERBS[state] if state else None)
    if as_json:
        from ..objects import line

        click.echo(line(told))
    else:
        click.echo(told.state)


@command("ping")
@click.option("--wait", metavar="TIME", help="The daemon may take so long to come up.")
@json_option
@socket_option
@click.pass_obj
def ping(core: Core, wait: str | None, as_json: bool, socket: str | None) -> None:
    """Ask whether the daemon is there; prints its time."""
    seconds = 0.0
    if wait is not None:
        from jobsup.supervisor.units import parse_duration

        seconds = parse_duration("wait", wait, 0) / 1e6
    with core.supervisor(socket) as supervisor:
        told = supervisor.ping(wait=seconds)
    if as_json:
        from ..objects import line

        click.echo(line(told))
    else:
        click.echo(told.time)
