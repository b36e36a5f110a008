"""`jobsup stop`, `kill`, `pause`, `resume` and `rm`: one request for each job.

What is so already is no error, as it is none for systemctl: to stop a job that has ended is done,
and a note says how it ended. What cannot come to be any more is one: a signal that nobody gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobsup.supervisor.errors import WrongState
from jobsup.supervisor.protocol import ENDED

from .. import render
from ..client import command, each, job_argument, socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job

    from ..core import Core


def _ended_before(job: Job, error: WrongState) -> None:
    """Tell that it has ended, and how; anything else is an error."""
    if job.status().state not in ENDED:
        raise error
    render.tell(f"jobsup: {error.message}")


@command("stop")
@job_argument(several=True, unfinished=True)
@click.option("-s", "--signal", metavar="SIGNAL", help="What it is asked by; SIGTERM unless said.")
@click.option("--grace", metavar="TIME", help="From then to SIGKILL; its own --grace unless said.")
@click.option("--no-wait", is_flag=True, help="Return when it is asked, not when it has ended.")
@socket_option
@click.pass_obj
def stop(
    core: Core,
    jobs: tuple[str, ...],
    signal: str | None,
    grace: str | None,
    no_wait: bool,
    socket: str | None,
) -> int:
    """Ask jobs to end, kill those that do not, and wait until they have.

    Of one that has ended before, a note says how; that is no error.
    """
    stopped: list[Job] = []

    def ask(job: Job) -> None:
        try:
            job.stop(signal, grace)
        except WrongState as error:
            _ended_before(job, error)
        else:
            stopped.append(job)

    with core.supervisor(socket) as supervisor:
        status = each(supervisor, jobs, ask)
        for job in () if no_wait else stopped:
            job.wait()
    return status


@command("kill")
@job_argument(several=True, unfinished=True)
@click.option("-s", "--signal", metavar="SIGNAL", help="Send this to the job instead.")
@socket_option
@click.pass_obj
def kill(core: Core, jobs: tuple[str, ...], signal: str | None, socket: str | None) -> int:
    """End all processes of jobs at once, and wait until they have.

    Of one that has ended before, a note says how; that is no error. With --signal, only send that
    signal to the process group of the first process, which there has to be.
    """
    killed: list[Job] = []

    def end(job: Job) -> None:
        if signal is not None:
            job.signal(signal)
            return
        try:
            job.kill()
        except WrongState as error:
            _ended_before(job, error)
        else:
            killed.append(job)

    with core.supervisor(socket) as supervisor:
        status = each(supervisor, jobs, end)
        for job in killed:
            job.wait()
    return status


@command("pause")
@job_argument(several=True, unfinished=True)
@socket_option
@click.pass_obj
def pause(core: Core, jobs: tuple[str, ...], socket: str | None) -> int:
    """Freeze jobs; their time limits stand still meanwhile. One that is frozen stays so."""
    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, lambda job: job.pause())


@command("resume")
@job_argument(several=True, unfinished=True)
@socket_option
@click.pass_obj
def resume(core: Core, jobs: tuple[str, ...], socket: str | None) -> int:
    """Let frozen jobs go on; one that runs does so anyway."""
    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, lambda job: job.resume())


@command("rm")
@job_argument(several=True)
@click.option("-f", "--force", is_flag=True, help="Kill one that has not ended first.")
@socket_option
@click.pass_obj
def rm(core: Core, jobs: tuple[str, ...], force: bool, socket: str | None) -> int:
    """Forget ended jobs and what they wrote."""
    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, lambda job: job.remove(force=force))
