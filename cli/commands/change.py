"""`jobsup set`: other limits for a job that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import options, render
from ..client import each, jobs_parameter, socket_parameter

if TYPE_CHECKING:
    from ..core import Core

_HELP = """Change the limits of jobs, all that are given or none.

\b
Example:
  jobsup set build --mem 512M --cpus 2
  jobsup set build --mem max

Each is written, read back and compared. What is not named stays as it is; max lifts a limit, and
with that of memory what it implies (no swap, an end for all of the job). Times and the bounds of
output are fixed when a job is started.
"""


def _set(
    core: Core,
    jobs: tuple[str, ...],
    socket: str | None,
    **parameters: Any,  # noqa: ANN401 - for options_of
) -> int:
    asked = options.options_of(parameters)
    if not asked:
        raise click.UsageError("no limit is given")
    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, lambda job: job.set(**asked))


change = options.JobCommand(
    "set",
    context_settings=render.HELP_FLAGS,
    callback=click.pass_obj(_set),
    help=_HELP,
    params=[
        *options.job_options("Resources"),
        socket_parameter(),
        jobs_parameter(),
    ],
)
