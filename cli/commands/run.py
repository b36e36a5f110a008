"""`jobsup run`: one job in the foreground, from its flags to its exit status.

The flags are texts; Spec.make gives them their meaning, so that a value is refused in the same
words here and in Python. `--json` is opened before the job starts: a job that has run must not
turn out to have nowhere to say how it ended.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec

from .. import render

if TYPE_CHECKING:
    from pathlib import Path

    from jobsup.supervisor.verdict import Verdict

    from ..core import Core

_GROUPS: dict[str, list[tuple[str, str, str]]] = {
    # What ends in "..." may be given again; what has no metavar is a switch.
    "Resources": [
        ("--mem", "SIZE", "Memory limit; no swap with it unless --swap."),
        ("--mem-high", "SIZE", "Slow the job down above this much memory."),
        ("--mem-low", "SIZE", "Memory that is not taken from it while others have some."),
        ("--swap", "SIZE|max", "Swap limit."),
        ("--oom-group/--no-oom-group", "", "At --mem, kill all of it, or one process."),
        ("--cpus", "N", "CPU time, in processors: 0.5 is half of one."),
        ("--cpu-weight", "1-10000", "Share of busy processors; 100 is everybody's."),
        ("--cpuset", "LIST", "Run on these processors only: 0-3,8."),
        ("--pids", "N|max", "Most processes and threads; 4096 unless said."),
        ("--io-max", "PATH|DEV:LIMITS...", "Rates of a disk: rbps=, wbps=, riops=, wiops=."),
        ("--io-weight", "1-10000", "Share of busy disks; 100 is everybody's."),
        ("--cgroup", "KEY=VALUE...", "Any other file of the job's cgroup."),
    ],
    "Files": [
        ("--rw", "PATH|SRC:DST...", "Let the job write here."),
        ("--ro", "PATH|SRC:DST...", "Let the job read what it would not see."),
        ("--tmpfs", "PATH[:SIZE]...", "An empty directory in memory."),
        ("--root", "DIR", "Run in this file tree instead of the host's."),
        ("--cwd", "DIR", "Working directory in the job; the caller's unless said."),
    ],
    "Network": [
        ("--net", "none|host", "The job's own loopback (default), or the host's network."),
        ("--hostname", "NAME", 'Host name in the job; "job" unless said.'),
    ],
    "Identity and environment": [
        ("--user", "NAME|UID", "Run as this user, with that user's groups."),
        ("--group", "NAME|GID", "Primary group."),
        ("--groups", "LIST...", 'Supplementary groups, by commas; "none".'),
        ("--cap", "CHANGE...", "Capabilities: none, all, NAME or -NAME, in order."),
        ("--env", "NAME[=VALUE]...", "Set a variable, or pass on the caller's."),
        ("--inherit-env", "", "Pass on the caller's whole environment."),
        ("--rlimit", "NAME=SOFT[:HARD]...", "A resource limit: nofile=1024:4096."),
        ("--oom-score-adj", "N", "-1000 to 1000; 0 unless said."),
    ],
    "Time and output": [
        ("--time", "TIME", "Longest run: 10s, 1h30m."),
        ("--cpu-time", "TIME", "CPU time of all its processes together."),
        ("--grace", "TIME", "From SIGTERM to SIGKILL; 5s unless said."),
        ("--output-max", "SIZE", "Most output, stdout and stderr together."),
        ("--output-full", "drop|kill|block", "At --output-max; drop unless said."),
        ("--merge", "", "stderr into stdout, in the order of writing."),
    ],
}


def _options() -> list[click.Parameter]:
    return [
        render.GroupedOption(
            [flag],
            group=group,
            metavar=metavar.removesuffix("...") or None,
            multiple=metavar.endswith("..."),
            is_flag=not metavar,
            default=None,
            help=text,
        )
        for group, flags in _GROUPS.items()
        for flag, metavar, text in flags
    ]


_HELP = """Run a command as a job: isolated, limited, its end explained.

\b
Examples:
  sudo jobsup run --mem 256M --time 10s -- python3 program.py
  sudo jobsup run --rw . --cpus 2 -- make -j2

Flags end where CMD begins. SIZE is bytes or 512K, 256M, 1.5G (powers of 1024); TIME is seconds or
500ms, 90s, 1h30m.
"""
_EPILOG = """Exit status: the command's own, or 128+N when signal N ended it; 137 out of memory or
killed; 143 stopped; 124 out of time; 126 and 127 not executable, not found; 125 jobsup failed."""


def _run(
    core: Core,
    command: tuple[str, ...],
    json: str | None,
    dry_run: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401 - texts, or tuples of them, for Spec.make
) -> int:
    given = {name: value for name, value in options.items() if value not in (None, ())}
    spec = Spec.make(command, **given)
    if dry_run:
        for line in core.describe(spec):
            click.echo(render.printable(line))
        return 0
    with _report(json) as write:
        verdict = core.run_foreground(spec)
        write(verdict)
    if not quiet:
        render.verdict(verdict)
    return verdict.status


# ---- --json FILE


@contextmanager
def _report(path: str | None) -> Iterator[Callable[[Verdict], None]]:
    """A place for the verdict, found before the job starts: write(verdict) puts it there.

    A file appears whole or not at all, under its own name only when it is complete. "-" is
    standard error, since standard output is the job's; a device or a FIFO is written as it is.
    """
    if path is None or path == "-":
        yield (lambda verdict: None) if path is None else _to_stderr
        return
    from pathlib import Path  # which takes urllib with it

    try:
        target = Path(path).resolve()  # a link stays, what it leads to is replaced
        whole = _is_to_be_replaced(target)
        place = target.with_name(f".{target.name}.{os.getpid()}") if whole else target
        flags = os.O_CREAT | os.O_EXCL if whole else 0
        descriptor = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | flags, 0o666)
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadValue("json", path, f"cannot be written: {why}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            yield lambda verdict: _to_stream(stream, verdict, durable=whole)
        if whole:
            place.replace(target)
    except BaseException:
        if whole:
            place.unlink(missing_ok=True)
        raise


def _is_to_be_replaced(target: Path) -> bool:
    """Whether there is a regular file, or nothing yet; writing to a directory is an error."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISREG(mode) and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return stat.S_ISREG(mode)


def _to_stderr(verdict: Verdict) -> None:
    click.echo(verdict.to_json(), err=True)


def _to_stream(stream: IO[str], verdict: Verdict, *, durable: bool) -> None:
    stream.write(verdict.to_json() + "\n")
    stream.flush()
    if durable:
        os.fsync(stream.fileno())


run = render.GroupedCommand(
    "run",
    context_settings={"allow_interspersed_args": False},
    callback=click.pass_obj(_run),
    help=_HELP,
    epilog=_EPILOG,
    options_metavar="[FLAGS] [--]",
    params=[
        *_options(),
        click.Option(["--json"], metavar="FILE", help='Write the verdict; "-" is stderr.'),
        click.Option(
            ["--dry-run"], is_flag=True, help="Show the plan, a step a line; run nothing."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Do not say why the job ended."),
        click.Argument(["command"], nargs=-1, required=True, metavar="CMD [ARG]..."),
    ],
)
