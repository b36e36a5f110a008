"""`jobsup explain`: why a job is where it is, with the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..client import command, each, job_argument, json_option, socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job

    from ..core import Core


@command("explain")
@job_argument(several=True)
@json_option
@socket_option
@click.pass_obj
def explain(core: Core, jobs: tuple[str, ...], as_json: bool, socket: str | None) -> int:
    """Tell why a job ended as it did, from the evidence, and what to try.

    With --json the same object as of `jobsup status --json`.
    """

    def tell(job: Job) -> None:
        from .. import details, objects

        told = job.status()
        if as_json:
            click.echo(objects.line(objects.of_job(told)))
        else:
            details.explain(told)

    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, tell)
