"""`jobsup install` and `jobsup uninstall`: the daemon as a service of this host."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
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
    if (place := closed_place(sys.executable)) is not None:
        render.tell(
            f"jobsup: {place} is not open to others, so they have the daemon but no jobsup "
            "command to ask it with; README.md says how to install it for all, in /opt/jobsup"
        )
    return 0


def closed_place(program: str) -> str | None:
    """The first directory on the way to a program, as it is named and as it is, that others may not
    enter, or the program itself if they may not execute it; None if they may."""
    named, real = Path(program), Path(program).resolve()
    for place in (*reversed(named.parents), *reversed(real.parents), real):
        if not place.stat().st_mode & stat.S_IXOTH:
            return str(place)
    return None


@click.command(context_settings=render.HELP_FLAGS)
@click.option("--force", is_flag=True, help="Also while jobs run: they are ended.")
@click.option("--purge", is_flag=True, help="Also remove all records and output.")
@click.pass_obj
def uninstall(core: Core, force: bool, purge: bool) -> int:
    """Stop the daemon and remove its units from this host."""
    for line in core.uninstall(force=force, purge=purge):
        click.echo(line)
    return 0
