"""`tools/in_guest.py WHY ARGS…` is `jobsup ARGS…` on a host that cannot run jobs, because of WHY.

Only a job needs a kernel with cgroup v2: it goes into the guest. Everything else stays on the host:
help, a dry run, `doctor`, which is to tell of this host, and whatever jobsup refuses. So the words
are read here by jobsup itself, its command line's parser and its spec.

A daemon is refused: it would live in a guest, whose sockets nobody outside can connect to. A
session with one is a command of the guest's, see examples/session.sh; what asks a daemon says so,
unless a socket is named or there.

The guest sees the host's files read-only, has a /tmp, /run and /dev of its own, and forgets what
is written, except in the directories that it shares: the current one, and those that the options
name. A path that is named in any other way (in the command itself, or in a file) is not shared.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from jobsup.cli import render
from jobsup.cli.commands.run import run, spec_of
from jobsup.cli.core import SOCKET, SOCKET_VARIABLE
from jobsup.cli.main import cli, fill_streams
from jobsup.cli.report import descriptor_named, discard
from jobsup.supervisor.errors import JobsupError
from jobsup.supervisor.spec import Spec

REPO = Path(__file__).resolve().parent.parent
JOBSUP = [sys.executable, "-I", "-B", "-m", "jobsup"]

# What the guest has of its own, or refuses to share: the whole host, and what is no file on a disk.
NEVER_SHARED = {Path("/"), Path("/dev"), Path("/proc"), Path("/sys")}
_SESSION = f"in the guest it can, as: sudo {REPO}/vagrant/guest -- sh {REPO}/examples/session.sh"
ASKING = {
    "start", "ls", "status", "out", "wait", "stop", "kill", "pause", "resume", "set", "rm", "prune",
    "explain", "events", "control", "ping",
}  # fmt: skip
LEAST_MEMORY, MOST_MEMORY = 2 << 30, 16 << 30  # booting takes 30 ms longer for each GiB


class Asked(NamedTuple):
    """A job that is to run, and what of the command line is not in its spec."""

    spec: Spec
    verdict: str | None = None
    no_stdin: bool = False
    env_files: tuple[str, ...] = ()


def asked(args: list[str]) -> Asked | None:
    """The job that the arguments ask for; None where there is none, or jobsup refuses it."""
    if args[:1] != ["run"]:
        return None
    try:
        with redirect_stdout(io.StringIO()):  # --help is shown, and ends the parsing
            parameters = run.make_context("jobsup run", args[1:]).params
        if parameters["dry_run"]:
            return None
        return Asked(
            spec_of(parameters),
            parameters["verdict"],
            parameters["no_stdin"],
            parameters["env_file"] or (),
        )
    except (click.ClickException, click.exceptions.Exit, JobsupError):
        return None


def named_paths(job: Asked) -> Iterator[tuple[str, Path]]:
    """Yield (share option, path) for each path that the job's options name on the host."""
    for grant in (*job.spec.rw, *job.spec.ro):
        yield "--rw" if grant.writable else "--ro", Path(os.fsdecode(grant.source))
    yield "--ro", Path(os.fsdecode(job.spec.root))
    for file in job.env_files:
        yield "--ro", Path(file)
    if job.verdict is not None and job.verdict != "-" and descriptor_named(job.verdict) is None:
        yield "--rw", Path(job.verdict)


def shares(job: Asked, cwd: Path) -> list[str]:
    """Return the guest's --rw and --ro options: each directory once, the stronger word wins."""
    wanted = {REPO: "--ro"}
    for option, name in [*named_paths(job), ("--rw", cwd)]:
        path = (cwd / name).resolve()
        directory = path if path.is_dir() else path.parent
        if directory.is_dir() and not is_never_shared(directory):
            wanted[directory] = max(option, wanted.get(directory, "--ro"))  # "--ro" < "--rw"
    return [word for path, option in wanted.items() for word in (option, str(path))]


def is_never_shared(directory: Path) -> bool:
    return directory in NEVER_SHARED or directory.parts[1] in ("proc", "sys")


def with_verdict(args: list[str], job: Asked, file: Path) -> list[str]:
    """The arguments with another file for the verdict: the last one is that which counts."""
    flags = args[: len(args) - len(job.spec.argv)]
    if flags[-1] == "--":
        flags.pop()
    return [*flags, "--verdict", str(file), "--", *args[-len(job.spec.argv) :]]


def relayed(descriptor: int, guest: list[str], file: Path) -> NoReturn:
    """Run the guest and write what it leaves in the file to the descriptor: the guest has none of
    our descriptors but the standard streams."""
    with subprocess.Popen(guest) as process:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        for number in (signal.SIGINT, signal.SIGQUIT):  # a terminal sends them to the guest as well
            signal.signal(number, lambda *_: None)
        status = process.wait()
    with suppress(OSError):
        os.write(descriptor, file.read_bytes())
    shutil.rmtree(file.parent, ignore_errors=True)
    sys.exit(status if status >= 0 else 128 - status)


def here() -> Path:
    """Where the caller stands; at the top, where that directory is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        os.chdir("/")
        return Path("/")


def parsed(args: list[str]) -> dict[str, Any] | None:
    """What a command is given; None where jobsup refuses it, or shows its help."""
    with redirect_stdout(io.StringIO()), suppress(click.ClickException, click.exceptions.Exit):
        command = cli.get_command(click.Context(cli), args[0])
        return None if command is None else command.make_context(args[0], args[1:]).params
    return None


def lacks_daemon(args: list[str]) -> bool:
    """Whether the arguments ask a daemon something, and there cannot be one."""
    if not args or args[0] not in ASKING or (given := parsed(args)) is None:
        return False
    named = given["socket"] or os.environ.get(SOCKET_VARIABLE)
    return not named and not os.path.exists(SOCKET)


def refuses_daemon(args: list[str]) -> bool:
    """Whether the arguments ask for a daemon, and not merely for its help."""
    return args[:1] == ["serve"] and not {"-h", "--help"} & set(args)


def memory() -> str:
    """The guest's memory, so that the limits of a host's usual job mean something in it."""
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") // 2
    return f"{min(max(half, LEAST_MEMORY), MOST_MEMORY) >> 20}M"


def main() -> None:
    """Become jobsup on the host, or the guest that runs it."""
    fill_streams()
    why, *args = sys.argv[1:]
    if refuses_daemon(args):
        render.error(f"a daemon cannot run on this host: {why}", _SESSION)
        sys.exit(125)
    if lacks_daemon(args):
        render.error(f"there is no daemon, and none can run on this host: {why}", _SESSION)
        sys.exit(125)
    job = asked(args)
    if job is None:
        if args[:1] == ["doctor"] and parsed(args) is not None:
            render.tell("jobsup: ./run runs jobs in the bundled guest kernel; of this host itself:")
        os.execv(JOBSUP[0], [*JOBSUP, *args])
    discard(job.verdict)
    if job.no_stdin:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stderr.write(f"jobsup: {why}; running in the bundled guest kernel\n")
    sys.stderr.flush()
    need = [str(REPO / "tools" / "need"), "user-mode-linux", "iproute2", "kmod"]
    if subprocess.run(need, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(125)  # jobsup's own status for "could not be started"; `need` said why
    cwd = here()
    own = None if job.verdict is None else descriptor_named(job.verdict)
    file = None
    if own is not None and own > 2:
        file = Path(tempfile.mkdtemp(prefix="jobsup-verdict-")) / "verdict.json"
        args, job = with_verdict(args, job, file), job._replace(verdict=str(file))
    guest = [str(REPO / "vagrant" / "guest"), "--timeout", "0", "--mem", memory()]
    guest += ["--cwd", str(cwd), *shares(job, cwd)]
    for name in os.environ:
        guest += ["--env", name]
    guest += ["--", *JOBSUP, *args]
    if own is not None and file is not None:
        relayed(own, guest, file)
    os.execv(guest[0], guest)


if __name__ == "__main__":
    main()
