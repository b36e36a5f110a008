"""`jobsup install` and `jobsup uninstall`: the daemon as a service of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import render

if TYPE_CHECKING:
    from ..core import Core


@click.command(context_settings=render.HELP_FLAGS)
@click.option("--no-start", is_flag=True, help="For a host that is to be booted.")
@click.pass_obj
def install(core: Core, no_start: bool) -> int:
    """Have systemd run the daemon: now, and at every boot.

    Writes jobsup.service and jobsup-keeper.service to /etc/systemd/system, and returns when the
    daemon is ready. Do it again after an upgrade: the daemon restarts, and jobs go on.
    """
    for line in core.install(start=not no_start):
        click.echo(line)
    return 0


@click.command(context_settings=render.HELP_FLAGS)
@click.option("--force", is_flag=True, help="Also while jobs run: they are ended.")
@click.option("--purge", is_flag=True, help="Also remove all records and output.")
@click.pass_obj
def uninstall(core: Core, force: bool, purge: bool) -> int:
    """Stop the daemon and remove its units from this host."""
    for line in core.uninstall(force=force, purge=purge):
        click.echo(line)
    return 0
