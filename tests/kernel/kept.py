"""A job as a daemon has it: its directory, its listener, and starters that come and go."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobsup.isolation import (
    DEFAULT_ROOT_CAPABILITIES,
    Bind,
    ExitRecord,
    Files,
    Identity,
    Job,
    Knob,
    Limits,
    Program,
    Status,
    Streams,
    Walls,
    Watch,
    adopt,
    launch,
)
from jobsup.isolation.record import decode
from tests.machine import PATIENCE, inits, kill

LIMITS = Limits((Knob("pids.max", "64", "pids"),))
NOBODY = 65534
GOES_ON = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def walls(script: str, watch: Watch | None = None, *, grants: tuple[Bind, ...] = ()) -> Walls:
    """A shell script of root's."""
    path = ((b"PATH", b"/usr/bin:/bin"),)
    return Walls(
        program=Program((b"sh", b"-c", script.encode()), (b"/bin/sh",), path),
        identity=Identity(0, 0, (), DEFAULT_ROOT_CAPABILITIES),
        files=Files(cwd=b"/", grants=grants),
        watch=watch or Watch(),
    )


def end_of(job: Job) -> ExitRecord:
    """Be with it to its end."""
    while job.receive() is not None:
        pass
    record = job.conclude()
    assert record is not None
    return record


def status_of(job: Job) -> Status:
    """The next message, which is no record."""
    assert select.select([job.fileno()], [], [], PATIENCE)[0], "the init says nothing"
    said = job.receive()
    assert isinstance(said, Status), said
    return said


def is_silent(job: Job, seconds: float) -> bool:
    """Whether nothing is said for so long."""
    return not select.select([job.fileno()], [], [], seconds)[0]


class Keeper:
    """What a daemon keeps of one job, in `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.address = str(directory / "control")

    def launch(self, asked: Walls, limits: Limits = LIMITS, **streams: int) -> Job:
        """Launched by this process."""
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
            self.spool() as spool,
        ):
            listener.bind(self.address)
            listener.listen()
            given = Streams(spool=spool, listener=listener.fileno(), **streams)
            return launch(asked, limits, self.name, given, outlive=True)

    def launch_and_die(self, asked: Walls, last_words: str = "") -> None:
        """Launched by another process, which is gone without having closed anything by itself.
        `last_words`: what it asks of the job before."""
        child = os.fork()
        if child == 0:
            try:
                job = self.launch(asked)
                while not status_of(job).started_ns:
                    pass
                if last_words:
                    self.wait_output(b"ready\n")
                if last_words == "stop":
                    job.stop(signal.SIGTERM, 3_600_000)
                elif last_words:
                    getattr(job, last_words)()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    @contextmanager
    def spool(self) -> Iterator[int]:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        yield descriptor
        os.close(descriptor)

    def connect(self) -> socket.socket | None:
        """To the init; None when none answers."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            control.connect(self.address)
        except (ConnectionRefusedError, FileNotFoundError):
            control.close()
            return None
        return control

    def adopt(self) -> Job:
        """As a daemon does that has just started."""
        with self.spool() as spool:
            return adopt(self.name, self.connect(), spool)

    def stored(self) -> ExitRecord:
        return decode((self.directory / "exit").read_bytes())

    def wait_output(self, expected: bytes) -> None:
        """Until the job has written this."""
        with open(self.directory / "stdout", "rb") as file:
            while expected not in file.read():
                file.seek(0)


@contextmanager
def kept_in(directory: Path) -> Iterator[Keeper]:
    """A keeper whose job does not outlive the test, even one that fails."""
    before = inits()
    yield Keeper(directory, f"kept-{os.getpid()}")
    for init in inits() - before:
        with suppress(ProcessLookupError):
            kill(init)
