"""The `jobsup` command: finds the subcommand, and shows every error in one place.

Exit status: what a command returns (for `run`, the job's own: see the verdict), 125 for every error
of ours, wrong usage included, so that a script can tell it from a job's.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from jobsup.supervisor.errors import BadValue, JobsupError, PathRefused

from . import meant, render
from .core import Core

OUR_ERROR = 125
INTERRUPTED = 130

# name -> the module that has the command, under which name, and its line in the help
_COMMANDS = {
    "run": (".commands.run", "run", "Run a command as a job, in the foreground."),
    "start": (".commands.start", "start", "Start a job that goes on by itself; print its id."),
    "ls": (".commands.ls", "ls", "List jobs."),
    "status": (".commands.status", "status", "Show all that is known of a job."),
    "out": (".commands.out", "out", "Write what a job has written."),
    "wait": (".commands.wait", "wait", "Wait for a job's end, and exit as it did."),
    "stop": (".commands.verbs", "stop", "Ask jobs to end, and see that they do."),
    "kill": (".commands.verbs", "kill", "End jobs at once."),
    "pause": (".commands.verbs", "pause", "Freeze jobs."),
    "resume": (".commands.verbs", "resume", "Let frozen jobs go on."),
    "set": (".commands.change", "change", "Change the limits of jobs."),
    "rm": (".commands.verbs", "rm", "Forget ended jobs."),
    "prune": (".commands.prune", "prune", "Forget many ended jobs."),
    "explain": (".commands.explain", "explain", "Tell why a job ended, with the evidence."),
    "events": (".commands.events", "events", "Show what happens to jobs, as it happens."),
    "serve": (".commands.serve", "serve", "Be the daemon."),
    "control": (
        ".commands.control",
        "control",
        "Say whether the daemon takes new jobs, or change it.",
    ),
    "ping": (".commands.control", "ping", "Ask whether the daemon is there."),
    "doctor": (".commands.doctor", "doctor", "Say what this host lacks for running jobs."),
    "completion": (".commands.completion", "completion", "Print a shell's completion."),
    "install": (
        ".commands.install",
        "install",
        "Have systemd run the daemon, now and at every boot.",
    ),
    "uninstall": (".commands.install", "uninstall", "Stop the daemon and remove its units."),
}


class _NoSuchCommand(click.UsageError):
    def __init__(self, word: str, after: Sequence[str], ctx: click.Context) -> None:
        super().__init__(f"No such command {word!r}", ctx)
        self.word = word
        self.after = after


class _Commands(click.Group):
    """A group that imports a command's module when the command is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not (ctx.resilient_parsing or args[0] in _COMMANDS or args[0].startswith("-")):
            raise _NoSuchCommand(args[0], args[1:], ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        where, name, _ = _COMMANDS[cmd_name]
        module = importlib.import_module(where, __package__)
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from jobsup import __version__

        click.echo(f"jobsup {__version__}")
        ctx.exit()


@click.group(cls=_Commands, invoke_without_command=True, context_settings=render.HELP_FLAGS)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run programs as jobs: isolated, limited, observed and never lost track of.

    \b
    Examples:
      sudo jobsup run --mem 256M -- python3 program.py
      sudo jobsup serve &
      jobsup ping --wait 10s
      id=$(jobsup start --mem 256M -- python3 program.py); jobsup out -f $id

    Exit status: the job's own for run and wait; 125 for every error of jobsup's.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def invoke(arguments: Sequence[str], core: Core) -> int:
    """Do what the arguments say; the exit status. Errors are shown here and nowhere else."""
    try:
        status = cli.main(list(arguments), prog_name="jobsup", standalone_mode=False, obj=core)
    except click.ClickException as error:
        unknown = isinstance(error, click.NoSuchOption)  # whose format_message() guesses as well
        message = error.message if unknown else error.format_message()
        # click has a line for each of several words.
        line = " ".join(each.strip() for each in message.splitlines())
        render.error(line.rstrip("."), _usage_hint(error))
    except BadValue as error:
        render.error(error.sentence(render.flag_name), error.advice(render.flag_name))
    except PathRefused as error:
        render.error(f"{render.flag_name(error.field)}: {error.message}", error.hint)
    except JobsupError as error:
        render.error(error.message, _for_us(error))
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    else:
        return status if isinstance(status, int) else 0
    return OUR_ERROR


def _for_us(error: JobsupError) -> str | None:
    """The hint, as far as we may follow it."""
    code = getattr(error, "code", None)
    if os.geteuid() != 0 and code == "forbidden" and error.hint is None:
        return "ask root"
    return error.hint


def _usage_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = None
    if isinstance(error, _NoSuchCommand):
        hint = meant.command(error.word, _COMMANDS, error.after)
    elif isinstance(error, click.NoSuchOption):
        name = context.info_name if context else None
        hint = meant.flag(name, error.option_name, error.possibilities or ())
    return hint or (f"{context.command_path} --help" if context else None)


def fill_streams() -> None:
    """Open each standard stream that is closed on /dev/null.

    The next file to be opened would become it: that of --verdict would hold the job's output, a
    pipe of ours would be taken for the caller's stdin. So nothing may be opened before.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # For a closed one the interpreter has None, which cannot be asked for anything.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def main() -> NoReturn:
    """The entry point of the installed command."""
    fill_streams()
    status = invoke(sys.argv[1:], Core())
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; the interpreter must not find the rest when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
    sys.exit(status)
