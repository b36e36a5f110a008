"""`jobsup doctor`: what this host has of what jobs need, and how to get the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .. import render
from ..client import socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Supervisor
    from jobsup.supervisor.doctor import Finding
    from jobsup.supervisor.protocol import HostFinding

    from ..core import Core


@click.command(context_settings=render.HELP_FLAGS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@socket_option
@click.pass_obj
def doctor(core: Core, as_json: bool, socket: str | None) -> int:
    """Say what this host has of what jobs need, and how to get the rest.

    Much is root's to try. So who is not root is told what the daemon found, where there is one;
    with --socket so is root.

    Exit status: 0 when jobs can run here (warnings allowed), 1 when something is missing.
    """
    found = _found(core, socket)
    ok = all(finding.ok is not False for finding in found)
    if as_json:
        import json

        names = ("name", "ok", "found", "remedy")
        plain = [{name: getattr(finding, name) for name in names} for finding in found]
        click.echo(json.dumps({"ok": ok, "findings": plain}))
    else:
        render.findings(found)
    return 0 if ok else 1


def _found(core: Core, socket: str | None) -> Sequence[Finding | HostFinding]:
    daemon = _daemon(core, socket) if socket or os.geteuid() != 0 else None
    if daemon is None:
        return core.examine()
    with daemon:
        render.tell(f"jobsup: as the daemon at {daemon.socket} found it")
        return daemon.doctor().findings


def _daemon(core: Core, socket: str | None) -> Supervisor | None:
    from jobsup.supervisor.client.errors import NoDaemon

    try:
        return core.daemon_if_any(socket)
    except NoDaemon:
        if socket:
            raise
        return None  # something is wrong here, and what it is was asked for
