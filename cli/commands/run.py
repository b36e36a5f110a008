"""`jobsup run`: one job in the foreground, from its flags to its exit status.

The flags are texts; Spec.make gives them their meaning, so that a value is refused in the same
words here and in Python. `--json` is opened before the job starts: a job that has run must not
turn out to have nowhere to say how it ended.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

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
        ("--tmpfs", "/PATH[:SIZE]...", "An empty directory in memory."),
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
        ("--env", "NAME[=VALUE]...", "Set a variable, or pass on the caller's if it is set."),
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
500ms, 90s, 1h30m. A job has no terminal yet: its streams are pipes.
"""
_EPILOG = """Exit status: the command's own, or 128+N when signal N ended it; 137 out of memory or
killed; 124 out of time; 126 and 127 not executable, not found; 125 jobsup failed."""


# What `jobsup run` itself does with its words; the rest are options of the job.
_OWN = frozenset({"command", "json", "dry_run", "quiet", "no_stdin"})


def spec_of(parameters: Mapping[str, Any]) -> Spec:
    """The job that these parameters of the command ask for: texts, or tuples of them."""
    options = {
        name: value
        for name, value in parameters.items()
        if name not in _OWN and value not in (None, ())
    }
    return Spec.make(parameters["command"], **options)


def _run(
    core: Core,
    json: str | None,
    dry_run: bool,
    quiet: bool,
    no_stdin: bool,
    **parameters: Any,  # noqa: ANN401 - for spec_of
) -> int:
    if dry_run:
        for line in core.describe(spec_of(parameters)):
            click.echo(render.printable(line))
        return 0
    with _report(json) as write:
        verdict = core.run_foreground(spec_of(parameters), stdin=not no_stdin)
        status = verdict.status
        try:
            write(verdict)
        except OSError as error:
            render.error(f"--json: {json!r} could not be written: {error.strerror}", None)
            status = status or 125  # a caller that wanted the verdict has none
    if not quiet:
        render.verdict(verdict)
    return status


# ---- --json FILE

_DESCRIPTOR = re.compile(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]{1,9})")

_BEGINNING = b'{"id": '  # of every verdict


@contextmanager
def _report(path: str | None) -> Iterator[Callable[[Verdict], None]]:
    """A place for the verdict, found before the job starts: write(verdict) puts it there.

    A file appears whole or not at all, under its own name only when it is complete; a verdict that
    was there goes at once, lest it be read as this job's. "-" is standard error, since standard
    output is the job's. A descriptor of ours (/dev/stdout, a shell's ">(…)"), a device or a FIFO is
    written as it is.
    """
    if path is None or path == "-":
        yield (lambda verdict: None) if path is None else _to_stderr
        return
    with ExitStack() as stack:
        try:
            write = _opened(path, stack)
        except (OSError, ValueError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadValue("json", path, f"cannot be written: {why}") from None
        yield write


def _opened(path: str, stack: ExitStack) -> Callable[[Verdict], None]:
    own = descriptor_named(path)
    if own is not None or not _is_to_be_replaced(path):
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags) if own is None else _copy_to_write(own)
        stack.callback(os.close, descriptor)
        return lambda verdict: _write(descriptor, verdict)
    target = _target(path)
    place = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o666)
    stack.callback(place.unlink, missing_ok=True)
    stack.callback(os.close, descriptor)
    discard(path)

    def write(verdict: Verdict) -> None:
        _write(descriptor, verdict)
        os.fsync(descriptor)
        place.replace(target)

    return write


def discard(path: str | None) -> None:
    """Take away another job's verdict from the file of --json; whatever is no verdict stays: who
    mistypes a command line must not lose a file by it."""
    if path is None or path == "-" or descriptor_named(path) is not None:
        return
    with suppress(OSError, ValueError, RuntimeError):
        if _is_to_be_replaced(path):
            target = _target(path)
            with target.open("rb") as file:
                old = file.read(len(_BEGINNING)) == _BEGINNING
            if old:
                target.unlink()


def descriptor_named(path: str) -> int | None:
    """The number of our own descriptor that the path stands for, if it stands for one."""
    match = _DESCRIPTOR.fullmatch(path)
    if match is None:
        return None
    return ("stdin", "stdout", "stderr").index(match[1]) if match[1] else int(match[2])


def _copy_to_write(descriptor: int) -> int:
    """Not opened anew by its name: that would write a file from its start, and fail on a socket."""
    from fcntl import F_GETFL, fcntl

    if fcntl(descriptor, F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise PermissionError(errno.EBADF, "it is not open for writing")
    return os.dup(descriptor)


def _is_to_be_replaced(path: str) -> bool:
    """Whether there is a regular file, or nothing yet; writing to a directory is an error."""
    try:
        mode = os.stat(path or ".").st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISREG(mode) and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return stat.S_ISREG(mode)


def _target(path: str) -> Path:
    """A link stays, what it leads to is replaced."""
    from pathlib import Path  # which takes urllib with it

    return Path(path).resolve()


def _to_stderr(verdict: Verdict) -> None:
    click.echo(verdict.to_json(), err=True)


def _write(descriptor: int, verdict: Verdict) -> None:
    rest = memoryview(verdict.to_json().encode("ascii") + b"\n")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


# ---- the command

# What other tools call it.
_KNOWN_ELSEWHERE = {
    "-m": "--mem",
    "--memory": "--mem",
    "--memory-swap": "--swap",
    "--memory-reservation": "--mem-low",
    "-c": "--cpu-weight",
    "--cpu-shares": "--cpu-weight",
    "--cpuset-cpus": "--cpuset",
    "--pids-limit": "--pids",
    "-v": "--rw SRC:DST or --ro SRC:DST",
    "--volume": "--rw SRC:DST or --ro SRC:DST",
    "--mount": "--rw SRC:DST or --ro SRC:DST",
    "--bind": "--rw SRC:DST or --ro SRC:DST",
    "-w": "--cwd",
    "--workdir": "--cwd",
    "--chdir": "--cwd",
    "-e": "--env",
    "-u": "--user",
    "--network": "--net",
    "--ulimit": "--rlimit",
    "--cap-add": "--cap NAME",
    "--cap-drop": "--cap -NAME",
    "--timeout": "--time",
    "--stop-timeout": "--grace",
}
_TERMINAL = frozenset({"-i", "--interactive", "-t", "--tty", "--pty"})


class _Command(render.GroupedCommand):
    """Words that are wrong: which ones may have been meant, and no old verdict left behind."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except click.UsageError as error:
            so_far = click.Context(self, resilient_parsing=True)
            super().parse_args(so_far, list(args))
            if not so_far.params.get("dry_run"):
                discard(so_far.params.get("json"))
            if isinstance(error, click.NoSuchOption):
                hint = _meant(error.option_name, error.possibilities)
                raise render.NoSuchFlag(error.message, ctx, hint) from None
            raise


def _meant(flag: str, similar: Sequence[str] | None) -> str | None:
    if flag in _TERMINAL:
        return "a job has no terminal yet: its streams are pipes"
    meant = _KNOWN_ELSEWHERE.get(flag) or (similar[0] if similar else None)
    return f"did you mean {meant}?" if meant else None


run = _Command(
    "run",
    context_settings={"allow_interspersed_args": False, **render.HELP_FLAGS},
    callback=click.pass_obj(_run),
    help=_HELP,
    epilog=_EPILOG,
    options_metavar="[FLAGS] [--]",
    params=[
        *_options(),
        click.Option(
            ["-n", "--no-stdin"],
            is_flag=True,
            help="The job reads an empty stdin; ours is left alone.",
        ),
        click.Option(
            ["--json"],
            metavar="FILE",
            help='Write the verdict; an old one goes first. "-" is stderr.',
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help="Show the plan, a step a line; run nothing."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Do not say why the job ended."),
        click.Argument(["command"], nargs=-1, required=True, metavar="CMD [ARG]..."),
    ],
)
