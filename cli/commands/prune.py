"""`jobsup prune`: forget many ended jobs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobsup.supervisor.protocol import ENDED

from ..client import command, json_option, socket_option

if TYPE_CHECKING:
    from ..core import Core


@command("prune")
@click.option("--older", metavar="TIME", default="0", help="Only those that ended so long ago: 7d.")
@click.option(
    "--state",
    metavar="STATE",
    type=click.Choice(ENDED),
    help="Only completed, failed, stopped or lost ones.",
)
@json_option
@socket_option
@click.pass_obj
def prune(core: Core, older: str, state: str | None, as_json: bool, socket: str | None) -> None:
    """Forget jobs that have ended, and what they wrote; prints their ids."""
    with core.supervisor(socket) as supervisor:
        removed = supervisor.prune(older=older, state=state)
    if as_json:
        from ..objects import line

        click.echo(line({"removed": removed}))
    else:
        for job in removed:
            click.echo(job)
