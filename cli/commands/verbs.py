"""`jobsup stop`, `kill`, `signal`, `pause`, `resume` and `rm`: one request for each job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..client import command, each, job_argument, socket_option

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job

    from ..core import Core


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
    """Ask jobs to end, kill those that do not, and wait until they have."""
    stopped: list[Job] = []

    def ask(job: Job) -> None:
        job.stop(signal, grace)
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

    With --signal, only send that signal to the process group of the first process.
    """
    killed: list[Job] = []

    def end(job: Job) -> None:
        if signal is not None:
            job.signal(signal)
        else:
            job.kill()
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
    """Freeze jobs; their time limits stand still meanwhile."""
    with core.supervisor(socket) as supervisor:
        return each(supervisor, jobs, lambda job: job.pause())


@command("resume")
@job_argument(several=True, unfinished=True)
@socket_option
@click.pass_obj
def resume(core: Core, jobs: tuple[str, ...], socket: str | None) -> int:
    """Let frozen jobs go on."""
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
