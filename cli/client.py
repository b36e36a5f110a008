"""What every command that talks to the daemon has in common: its options, and its jobs by name.

A JOB is an id, the unique beginning of one, or a name. Where several may be given, each is done
whatever becomes of the others; the errors are shown one by one, and the status tells of the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from jobsup.supervisor.errors import BadValue, JobsupError, NotReady

from . import render, words

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job, Supervisor
    from jobsup.supervisor.protocol import JobSummary

    from .core import Core

F = TypeVar("F", bound=Callable[..., Any])

_COMPLETED_MOST = 200
_MOMENT = 10.0  # seconds that a daemon may take to come back


_JOBS: dict[str, Any] = {"nargs": -1, "required": True, "metavar": "JOB..."}
_SOCKET: dict[str, Any] = {
    "metavar": "PATH",
    "help": "The daemon's socket; else JOBSUP_SOCKET, else the usual one.",
    "shell_complete": words.of_metavar("PATH"),
}


def whole(field: str, least: int) -> Callable[[str], int]:
    """The type of an option: a whole number, refused in the words of the others."""

    def number(value: str) -> int:
        from jobsup.supervisor.units import parse_count

        return parse_count(field, value, least)

    return number


def socket_parameter() -> click.Option:
    return click.Option(["--socket"], **_SOCKET)


def socket_option(function: F) -> F:
    return click.option("--socket", **_SOCKET)(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")(function)


def jobs_parameter() -> click.Argument:
    """JOB... that have not ended, as `jobs`."""
    return click.Argument(["jobs"], shell_complete=unfinished_jobs, **_JOBS)


def job_argument(*, several: bool = False, unfinished: bool = False) -> Callable[[F], F]:
    """JOB as `ref`, or JOB... as `jobs`; a shell offers those that it may be."""
    offered = unfinished_jobs if unfinished else all_jobs
    if several:
        return click.argument("jobs", shell_complete=offered, **_JOBS)
    return click.argument("ref", metavar="JOB", shell_complete=offered)


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:  # noqa: ANN401 - click's own
    """A command of the client: JOB arguments and flags in any order."""
    return click.command(name, context_settings=render.HELP_FLAGS, **settings)


def each(supervisor: Supervisor, refs: Iterable[str], action: Callable[[Job], int | None]) -> int:
    """Do it for every job; the first status that is not 0."""
    result = 0
    for ref in dict.fromkeys(refs):
        try:
            status = action(supervisor.job(ref)) or 0
        except BadValue:
            raise  # it is wrong for all of them
        except JobsupError as error:
            render.error(error.message, error.hint)
            status = error.exit_status
        result = result or status
    return result


def until_there(supervisor: Supervisor, most: float | None = None, *, quiet: bool = False) -> None:
    """For what lasts: let a daemon that is being restarted come back before it is asked anything,
    as one that goes away later is waited for.

    Args:
        most: seconds; no more than a moment in any case.

    Raises:
        NoDaemon: it did not come, or there was none since the host came up.
    """
    from jobsup.supervisor.client.errors import Disconnected, NoDaemon

    try:
        supervisor.ping()
    except (NoDaemon, Disconnected, NotReady) as error:
        # What a daemon made for its socket is there while it is not.
        if not os.path.isdir(os.path.dirname(supervisor.socket) or "."):
            raise
        patience = _MOMENT if most is None else min(most, _MOMENT)
        if not quiet:
            render.tell(f"jobsup: {error.message}; waiting {patience:g} s for one")
        supervisor.ping(wait=patience)


def all_jobs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids and names of the daemon's jobs."""
    return _offered(ctx, (None,), incomplete)


def unfinished_jobs(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids and names of those that have not ended."""
    from jobsup.supervisor.protocol import UNFINISHED

    return _offered(ctx, UNFINISHED, incomplete)


def _offered(
    ctx: click.Context, states: Iterable[str | None], incomplete: str
) -> list[CompletionItem]:
    """A shell waits for this: no daemon, no words."""
    core: Core | None = ctx.find_root().obj
    if core is None:
        return []
    found: list[JobSummary] = []
    try:
        with core.supervisor(ctx.params.get("socket"), deadline=0.5) as supervisor:
            for state in states:
                found += islice(supervisor.jobs(state=state), _COMPLETED_MOST)
    except (JobsupError, OSError):
        return []
    said = {word for value in ctx.params.values() if isinstance(value, tuple) for word in value}
    shown: dict[str, str] = {}
    for job in found:
        shown[job.id] = render.shortened(render.safe(" ".join([job.state, *job.argv])), 60)
        if job.name is not None:
            shown.setdefault(job.name, shown[job.id])
    return [
        CompletionItem(word, help=help_text)
        for word, help_text in shown.items()
        if word.startswith(incomplete) and word not in said
    ]
