"""`jobsup doctor`: what this host has of what jobs need, and how to get the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import render

if TYPE_CHECKING:
    from ..core import Core


@click.command(context_settings=render.HELP_FLAGS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def doctor(core: Core, as_json: bool) -> int:
    """Say what this host has of what jobs need, and how to get the rest.

    Exit status: 0 when jobs can run here (warnings allowed), 1 when something is missing.
    """
    found = core.examine()
    ok = all(finding.ok is not False for finding in found)
    if as_json:
        import json

        names = ("name", "ok", "found", "remedy")
        plain = [{name: getattr(finding, name) for name in names} for finding in found]
        click.echo(json.dumps({"ok": ok, "findings": plain}))
    else:
        render.findings(found)
    return 0 if ok else 1
