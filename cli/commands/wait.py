"""`jobsup wait`: until a job has ended, and then as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import render
from ..client import command, each, job_argument, json_option, socket_option, until_there

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job

    from ..core import Core


@command("wait")
@job_argument(several=True)
@click.option("--timeout", metavar="TIME", help="Give up after so long, with status 125.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say why it ended; no progress.")
@json_option
@socket_option
@click.pass_obj
def wait(
    core: Core,
    jobs: tuple[str, ...],
    timeout: str | None,
    quiet: bool,
    as_json: bool,
    socket: str | None,
) -> int:
    """Wait until jobs have ended, and exit as they did; of several, as the first that failed.

    A restart of the daemon does not end the waiting, and one that is under way is waited for. On a
    terminal a line on stderr tells how it goes; --json prints the verdict, an object a line.
    """
    seconds = None
    if timeout is not None:
        from jobsup.supervisor.units import parse_duration

        seconds = parse_duration("timeout", timeout, 0) / 1e6

    def until_end(job: Job) -> int:
        from ..progress import waited

        verdict = waited(job, seconds, shown=not quiet)
        if as_json:
            click.echo(verdict.to_json())
        elif not quiet:
            render.verdict(verdict)
        return verdict.status

    with core.supervisor(socket) as supervisor:
        until_there(supervisor, seconds, quiet=quiet)
        return each(supervisor, jobs, until_end)
