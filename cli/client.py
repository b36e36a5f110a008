"""What every command that talks to the daemon has in common: its options, and its jobs by name.

A JOB is an id, the unique beginning of one, or a name. Where several may be given, each is done
whatever becomes of the others; the errors are shown one by one, and the status tells of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from jobsup.supervisor.errors import BadValue, JobsupError

from . import render

if TYPE_CHECKING:
    from jobsup.supervisor.client.blocking import Job, Supervisor

    from .core import Core

F = TypeVar("F", bound=Callable[..., Any])

_COMPLETED_MOST = 200


_JOBS: dict[str, Any] = {"nargs": -1, "required": True, "metavar": "JOB..."}
_SOCKET_HELP = "The daemon's socket; else JOBSUP_SOCKET, else the usual one."


def socket_parameter() -> click.Option:
    return click.Option(["--socket"], metavar="PATH", help=_SOCKET_HELP)


def socket_option(function: F) -> F:
    return click.option("--socket", metavar="PATH", help=_SOCKET_HELP)(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")(function)


def jobs_parameter() -> click.Argument:
    return click.Argument(["jobs"], shell_complete=_completions, **_JOBS)


def job_argument(*, several: bool = False) -> Callable[[F], F]:
    """JOB as `ref`, or JOB... as `jobs`."""
    if several:
        return click.argument("jobs", shell_complete=_completions, **_JOBS)
    return click.argument("ref", metavar="JOB", shell_complete=_completions)


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


def _completions(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids and names of the daemon's jobs. A shell waits for this: no daemon, no words."""
    core: Core | None = ctx.find_root().obj
    if core is None:
        return []
    try:
        with core.supervisor(ctx.params.get("socket"), deadline=0.5) as supervisor:
            found = list(islice(supervisor.jobs(), _COMPLETED_MOST))
    except (JobsupError, OSError):
        return []
    words: dict[str, str] = {}
    for job in found:
        shown = " ".join([job.state, *job.argv])
        words[job.id] = render.shortened(render.safe(shown), 60)
        if job.name is not None:
            words.setdefault(job.name, words[job.id])
    return [
        CompletionItem(word, help=help_text)
        for word, help_text in words.items()
        if word.startswith(incomplete)
    ]
