"""`jobsup run`: one job in the foreground, from its flags to its exit status.

Where a daemon answers, it is the daemon's job, on our own streams all the same; else it is a job of
this very process. Neither the output nor the exit status tells which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from jobsup.supervisor.spec import Spec

from .. import options, render, words
from ..client import socket_parameter
from ..report import report

if TYPE_CHECKING:
    from jobsup.supervisor.verdict import Verdict

    from ..core import Core

_HELP = """Run a command as a job: isolated, limited, its end explained.

\b
Examples:
  sudo jobsup run --mem 256M --time 10s -- python3 program.py
  sudo jobsup run --rw . --cpus 2 -- make -j2

Flags end where CMD begins. SIZE is bytes or 512K, 256M, 1.5G (powers of 1024); TIME is seconds or
500ms, 90s, 1h30m. A job has no terminal yet: its streams are pipes. Where a daemon answers (jobsup
serve) the job is the daemon's, and root is not needed.
"""
_EPILOG = """Exit status: the command's own, or 128+N when signal N ended it; 137 out of memory or
killed; 124 out of time; 126 and 127 not executable, not found; 125 jobsup failed."""


# What `jobsup run` itself does with its words; the rest are options of the job.
_OWN = frozenset({"command", "verdict", "dry_run", "quiet", "no_stdin", "socket", "embedded"})


def spec_of(parameters: Mapping[str, Any]) -> Spec:
    """The job that these parameters of the command ask for: texts, or tuples of them."""
    asked = options.options_of(parameters, _OWN)
    if "env_file" in asked:
        from jobsup.supervisor import envfile

        asked = envfile.with_files(asked)
    return Spec.make(parameters["command"], **asked)


def _run(
    core: Core,
    verdict: str | None,
    dry_run: bool,
    quiet: bool,
    no_stdin: bool,
    embedded: bool,
    socket: str | None,
    **parameters: Any,  # noqa: ANN401 - for spec_of
) -> int:
    if dry_run:
        for line in core.describe(spec_of(parameters)):
            click.echo(render.printable(line))
        return 0
    with report(verdict) as write:
        ended = _verdict(core, parameters, not no_stdin, embedded, socket)
        status = ended.status
        try:
            write(ended)
        except OSError as error:
            render.error(f"--verdict: {verdict!r} could not be written: {error.strerror}", None)
            status = status or 125  # a caller that wanted the verdict has none
    if not quiet:
        render.verdict(ended)
    return status


def _verdict(
    core: Core, parameters: Mapping[str, Any], stdin: bool, embedded: bool, socket: str | None
) -> Verdict:
    daemon = None if embedded else core.daemon_if_any(socket)
    if daemon is None:
        return core.run_foreground(spec_of(parameters), stdin=stdin)
    with daemon:
        asked = options.options_of(parameters, _OWN)
        return core.run_attached(daemon, parameters["command"], asked, stdin=stdin)


class _VerdictOption(click.Option):
    """As --json it takes a file here and is a switch everywhere else, so that is not told; scripts
    may have it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (f"--verdict {self.metavar}", record[1])


run = options.JobCommand(
    "run",
    context_settings={"allow_interspersed_args": False, **render.HELP_FLAGS},
    callback=click.pass_obj(_run),
    help=_HELP,
    epilog=_EPILOG,
    options_metavar="[FLAGS] [--]",
    params=[
        *options.job_options(),
        click.Option(
            ["-n", "--no-stdin"],
            is_flag=True,
            help="The job reads an empty stdin; ours is left alone.",
        ),
        _VerdictOption(
            ["--verdict", "--json", "verdict"],
            metavar="FILE",
            shell_complete=words.of_metavar("FILE"),
            help='Write the verdict; an old one goes first. "-" is stderr.',
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help="Show the plan, a step a line; run nothing."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Do not say why the job ended."),
        click.Option(
            ["--embedded"], is_flag=True, help="Run it in this process, also where a daemon is."
        ),
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
