"""Jobs as people start them, through the real command line.

`Jobs` (the fixture `jobs`) runs and starts jobs; options are those of Spec, as Python names them.
`Here` is a job of this very process, for what needs the handle, or hundreds of jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from jobsup.isolation import ExitRecord, Job, Streams
from jobsup.supervisor.conversation import Capture, Feed
from jobsup.supervisor.embedded import EmbeddedJob
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.verdict import Verdict
from tests.machine import JOBSUP, PATIENCE, REPO, children, wait_no_inits

PROGRAMS = REPO / "tests" / "programs"
PRIVATE = ("/tmp/", "/var/tmp/", "/run/", "/dev/shm/")  # of each job its own

Argv = Sequence[str | bytes]


def program(name: str, *arguments: object) -> list[str]:
    """The command of one of tests/programs."""
    return [sys.executable, "-IS", str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


def flags(options: dict[str, Any]) -> list[str]:
    """Options of Spec as the command line has them."""
    said = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is False:
            said.append(flag.replace("--", "--no-", 1))
        elif value is True:
            said.append(flag)
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                said += [flag, str(one)]
    return said


def _out_of_sight(argv: Argv) -> list[str]:
    """The places that the command names and no job sees: the programs and Python, where the
    checkout lies below a directory of which every job has its own."""
    words = [os.fsdecode(word) for word in argv]
    return [
        place
        for place in dict.fromkeys([str(REPO), sys.prefix])
        if place.startswith(PRIVATE) and any(place in word for word in words)
    ]


def with_grants(argv: Argv) -> list[str]:
    """What goes behind `jobsup run` for this command: the grants that it needs, and itself."""
    granted = [word for place in _out_of_sight(argv) for word in ("--ro", place)]
    return [*granted, "--", *map(os.fsdecode, argv)]


def _defaults(argv: Argv, options: dict[str, Any]) -> dict[str, Any]:
    """A working directory that every job has, and the programs, wherever the checkout lies."""
    ro = [*_out_of_sight(argv), *options.get("ro", [])]
    return {"cwd": "/", **options} | ({"ro": ro} if ro else {})


@dataclass(frozen=True, slots=True)
class Ended:
    """What `jobsup run` left: its status, its streams, the file of --verdict ({} without one)."""

    status: int
    stdout: bytes
    stderr: bytes
    verdict: Any

    @property
    def cause(self) -> str:
        return str(self.verdict.get("cause"))


@dataclass
class Running:
    """A `jobsup run` that goes on."""

    process: subprocess.Popen[bytes]
    report: Path

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def line(self) -> str:
        """The next line of its output: the job has come as far as to say so."""
        return self.stdout.readline().decode().rstrip("\n")

    @cached_property
    def init(self) -> int:
        """The init's pid: the only child of a `jobsup run`."""
        (pid,) = children(self.process.pid)
        return pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for it; what it said after what was read already."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return Ended(self.process.returncode, stdout or b"", stderr or b"", verdict_in(self.report))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                with suppress(BrokenPipeError):
                    stream.close()
        self.process.wait(PATIENCE)


def verdict_in(report: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(report.read_text()) if report.exists() else {}


@dataclass
class Jobs:
    """Runs `jobsup run`; whatever is left running ends with the test."""

    directory: Path
    _started: list[Running] = field(default_factory=list)

    def run(self, argv: Argv, *, input: bytes | None = b"", **options: Any) -> Ended:  # noqa: A002, ANN401
        """Run a job to its end, with `input` on stdin."""
        running = self.start(argv, stdin=subprocess.PIPE, **options)
        try:
            stdout, stderr = running.process.communicate(input, PATIENCE)
        finally:
            running.close()
        return Ended(running.process.returncode, stdout, stderr, verdict_in(running.report))

    def start(
        self,
        argv: Argv,
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        wrapper: Sequence[str] = (),
        preexec: Callable[[], object] | None = None,
        **options: Any,  # noqa: ANN401 - those of Spec
    ) -> Running:
        """Start a job. `wrapper` goes before the command line (nohup, setsid …)."""
        report = self.directory / f"verdict{len(self._started)}.json"
        said = flags(_defaults(argv, options))
        command = [*wrapper, *JOBSUP, "run", "--verdict", str(report), *said]
        process = subprocess.Popen(
            [*command, "--", *argv],
            stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, preexec_fn=preexec,
        )  # fmt: skip
        self._started.append(Running(process, report))
        return self._started[-1]

    def close(self) -> None:
        for running in self._started:
            running.close()
        wait_no_inits()  # those whose `jobsup run` was killed just now


# ---- a job of this process


@dataclass
class Here:
    """A job that this process launched, with its output captured."""

    spec: Spec
    job: EmbeddedJob
    handle: Job
    feed: Feed
    captures: tuple[Capture, Capture]
    ended: bool = False

    @property
    def id(self) -> str:
        return self.job.id

    def wait_started(self) -> None:
        """Until its command is executed."""
        assert not isinstance(self.handle.receive(), ExitRecord), "it was never executed"

    def end(self) -> tuple[Verdict, bytes, bytes]:
        """Be with it to its end: verdict, stdout, stderr."""
        self.ended = True
        verdict = self.job.see_through([self.feed, *self.captures])
        stdout, stderr = (capture.collected() for capture in self.captures)
        return verdict, stdout, stderr


@contextmanager
def here(argv: Argv, *, input: bytes = b"", **options: Any) -> Iterator[Here]:  # noqa: A002, ANN401
    """Launch a job from this process; whoever leaves the block before its end kills it."""
    spec = Spec.make(argv, **_defaults(argv, options))
    with ExitStack() as ours, ExitStack() as theirs:
        pipes = [os.pipe() for _ in range(3)]
        (stdin, feed), (out, stdout), (err, stderr) = pipes
        for descriptor in (stdin, stdout, stderr):
            theirs.callback(os.close, descriptor)
        parties = Feed(input, feed), Capture(out), Capture(err)
        for party in parties:
            ours.callback(party.close)
        job = EmbeddedJob(spec)
        handle = job.launch(Streams(stdin, stdout, stderr))
        theirs.close()
        launched = Here(spec, job, handle, parties[0], parties[1:])
        try:
            yield launched
        finally:
            if not launched.ended:
                handle.conclude()


def run_here(argv: Argv, *, input: bytes = b"", **options: Any) -> tuple[Verdict, bytes, bytes]:  # noqa: A002, ANN401
    """Run one job from this process to its end: verdict, stdout, stderr."""
    with here(argv, input=input, **options) as launched:
        return launched.end()
