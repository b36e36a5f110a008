"""`jobsup status`: all that is known of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..client import command, each, job_argument, json_option, socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job

    from ..core import Core


@command("status")
@job_argument(several=True)
@json_option
@socket_option
@click.pass_obj
def status(core: Core, jobs: tuple[str, ...], as_json: bool, socket: str | None) -> int:
    """Show all that is known of a job.

    With --json, an object a line: the verdict (cause, exit_code, signal, status, message, hint,
    limits, usage, events, output), null in what is not known before the end, and besides it the
    request, the attempts and what the job uses now.
    """

    def show(job: Job) -> None:
        from .. import details, objects

        told = job.status()
        if as_json:
            click.echo(objects.line(objects.of_job(told)))
        else:
            details.show(told)

    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, show)
