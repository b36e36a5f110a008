"""`jobsup start`: a job that goes on by itself; its id is all that is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from .. import options, render, words
from ..client import socket_parameter

if TYPE_CHECKING:
    from ..core import Core

_HELP = """Start a command as a job of the daemon's, and print its id.

\b
Examples:
  id=$(jobsup start --mem 256M -- python3 program.py)
  jobsup start --name backup --every "0 3 * * *" --rw /srv/backup -- backup.sh
  pg_dump db | jobsup start --stdin - --rw /srv -- sh -c 'gzip > /srv/db.gz'

It outlives this command and a restart of the daemon. Its output is kept: jobsup out ID. Flags end
where CMD begins; those below "When and how often" are of start alone, the others as for run.
"""


@contextmanager
def _fed(stdin: str | None) -> Iterator[str | IO[bytes] | None]:
    """What the job reads. Ours is taken to its end first: the daemon waits for nobody's pipe."""
    if stdin != "-":
        yield stdin
        return
    from shutil import copyfileobj
    from tempfile import TemporaryFile

    with TemporaryFile() as kept:
        copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept


_WHEN = [
    ("--after", "TIME", "Not before so much time has gone by: 10s."),
    (
        "--at",
        "TIME",
        "Not before this date and time, local unless it has a zone: 2026-12-01T02:00. One that has "
        "passed is now.",
    ),
    ("--every", "CRON", 'Again and again, as crontab(5) says: "0 3 * * *".'),
    (
        "--restart",
        "POLICY",
        "no, on-failure[:N] or always; no unless said. The pause before a run grows from a second "
        "to a minute, and starts over after a run of 10 seconds.",
    ),
]


def _start(
    core: Core,
    command: tuple[str, ...],
    socket: str | None,
    stdin: str | None,
    as_json: bool,
    **parameters: Any,  # noqa: ANN401 - for options_of
) -> None:
    asked = options.options_of(parameters)
    late = "at" in asked and _has_passed(asked["at"])
    with core.supervisor(socket) as supervisor, _fed(stdin) as source:
        job = supervisor.start(command, stdin=source, **asked)
    if as_json:
        import json

        click.echo(json.dumps({"id": job.id}))
    else:
        click.echo(job.id)
    if late:
        render.tell(f"jobsup: --at {asked['at']} has passed: the job starts now")


def _has_passed(at: str) -> bool:
    from jobsup.supervisor.client.asked import has_passed

    return has_passed(at)


class _Start(options.JobCommand):
    """--json is a switch here: `--json FILE -- CMD` would run FILE."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        words: tuple[str, ...] = ctx.params.get("command") or ()
        before = given[: len(given) - len(words)][-1:]
        if before == ["--json"] and (words[:1] == ("-",) or words[1:2] == ("--",)):
            message = f"--json takes no value, and {words[0]!r} would be the command"
            raise click.UsageError(message, ctx)
        return rest


start = _Start(
    "start",
    context_settings={"allow_interspersed_args": False, **render.HELP_FLAGS},
    callback=click.pass_obj(_start),
    help=_HELP,
    options_metavar="[FLAGS] [--]",
    params=[
        *(
            render.GroupedOption(
                [flag],
                group="When and how often",
                metavar=metavar,
                default=None,
                help=text,
                shell_complete=words.of_metavar(metavar),
            )
            for flag, metavar, text in _WHEN
        ),
        *options.job_options(),
        click.Option(
            ["--stdin"],
            metavar="FILE|-",
            shell_complete=words.of_metavar("FILE|-"),
            help="What the job reads; - is ours, to its end. Nothing unless said.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help='Print {"id": …} instead.'),
        socket_parameter(),
        click.Argument(
            ["command"],
            nargs=-1,
            required=True,
            metavar="CMD [ARG]...",
            shell_complete=words.command,
        ),
    ],
)
