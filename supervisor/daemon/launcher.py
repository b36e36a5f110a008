"""From a record to a running init, and back to it after a restart: the blocking calls, each run in
a thread, and the files of a job that they make and remove.

    <lib>/jobs/<id>/queued      the record of one that had to wait, until its first run has ended
    <lib>/jobs/<id>/job         the record at its first launch, should the database be damaged
    <lib>/jobs/<id>/stdin       what the job reads, where something was given
    <lib>/jobs/<id>/<attempt>/  the spool of one run, written by its init
    <run>/control/<id>          the socket on which the init listens for a restarted daemon
    <run>/records/<id>          the record at its last launch, should all of <lib> be lost

Nothing here decides anything about a job; it says what it found.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from jobsup.isolation import (
    Job,
    JobsupError,
    LaunchFailed,
    Limits,
    Streams,
    Walls,
    adopt,
    launch,
    reached,
)

from ..request import Request
from ..translate import Caller, translate
from .paths import Paths
from .records import Record
from .state import State

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Attached(NamedTuple):
    """The descriptors of a foreground job's caller. They are the launcher's, who closes them."""

    stdin: int | None
    stdout: int
    stderr: int
    lifeline: int

    def close(self) -> None:
        for descriptor in self:
            if descriptor is not None:
                os.close(descriptor)


class Trace(Enum):
    """What is left of a launch that this daemon did not see."""

    LIVE = "an init answers"
    ENDED = "an init was there"
    NONE = "no init ever was"


class Launcher:
    """The files and inits of one daemon's jobs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._control = os.open(paths.control, _DIRECTORY)

    def close(self) -> None:
        os.close(self._control)

    def walls(self, record: Record, request: Request) -> Walls:
        """What the job's walls are to be, as `start` has them made.

        Raises:
            BadValue: for a user or group that is not there any more.
        """
        return self._translated(record, request)[0]

    def _translated(self, record: Record, request: Request) -> tuple[Walls, Limits]:
        caller = Caller(record.uid, record.gid, record.groups, request.environment)
        return translate(request.spec, record.id, caller, hidden=self._paths.hidden)

    def start(
        self,
        record: Record,
        request: Request,
        attached: Attached | None,
        prepared: tuple[Walls, Limits] | None = None,
    ) -> Job:
        """Launch the record's attempt, with these walls and limits if they were just made.

        Raises:
            JobsupError: it was refused or failed; no process of it is left.
        """
        with ExitStack() as stack:
            if attached is not None:
                stack.callback(attached.close)
            walls, limits = prepared or self._translated(record, request)
            try:
                spool = self._make_spool(record, stack)
                reached("spool-made")
                listener = self._listen(record.id, stack)
                reached("listening")
                stdin = self._stdin(record.id, stack)
            except OSError as error:
                raise LaunchFailed(f"preparing the job's files: {error}", None) from error
            if attached is not None:
                streams = Streams(*attached[:3], spool, attached.lifeline, listener)
            else:
                streams = Streams(stdin=stdin, spool=spool, listener=listener)
            return launch(walls, limits, record.id, streams, outlive=True)

    def _make_spool(self, record: Record, stack: ExitStack) -> int:
        spool = self._paths.spool(record.id, record.attempt)
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep(record)
        if (self._paths.job(record.id) / "queued").exists():
            # What was launched is not taken for what waits, whatever is lost.
            _sync(self._paths.job(record.id))
        descriptor = os.open(spool, _DIRECTORY)
        stack.callback(os.close, descriptor)
        return descriptor

    def _keep(self, record: Record) -> None:
        data = msgspec.json.encode(record)
        kept = self._paths.job(record.id) / "job"
        if _is_empty(kept):
            _write_whole(kept, data)
        _write_whole(self._paths.records / record.id, data)

    def keep_queued(self, record: Record) -> None:
        """Keep the record of a job that is not launched at once, durably."""
        directory = self._paths.job(record.id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_whole(directory / "queued", msgspec.json.encode(record))
        for changed in (directory / "queued", directory, self._paths.jobs):
            _sync(changed)

    def _listen(self, job_id: str, stack: ExitStack) -> int:
        with suppress(FileNotFoundError):  # of a launch that was cut short
            os.unlink(job_id, dir_fd=self._control)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        # Through a descriptor: a socket's path is short (unix(7)), the directory's may not be.
        listener.bind(f"/proc/self/fd/{self._control}/{job_id}")
        listener.listen(16)
        return listener.fileno()

    def _stdin(self, job_id: str, stack: ExitStack) -> int | None:
        try:
            descriptor = os.open(self._paths.job(job_id) / "stdin", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        stack.callback(os.close, descriptor)
        return descriptor

    def take_stdin(self, job_id: str, source: Path) -> None:
        """Keep a file as what the job reads, durably."""
        directory = self._paths.job(job_id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(source)
        os.replace(source, directory / "stdin")
        for changed in (directory, self._paths.jobs):
            _sync(changed)

    # ---- after a restart of the daemon

    def reach(self, record: Record) -> tuple[Trace, Job]:
        """Connect to the init of the record's attempt, or say that it is gone. The job concludes
        to what it left behind either way.

        Raises:
            OSError: neither can be found out.
        """
        with ExitStack() as stack:
            spool = None  # it was removed, or never made: there may be no room for it now
            with suppress(FileNotFoundError):
                spool = stack.enter_context(_opened(self._paths.spool(record.id, record.attempt)))
            control = self._connect(record.id)
            if control is not None:
                return Trace.LIVE, _adopted(record.id, control, spool)
            # The init makes its files before it clones the workload.
            files = ("exit", "stdout", "output.index")
            was = spool is not None and any(_is_there(spool, name) for name in files)
            return (Trace.ENDED if was else Trace.NONE), adopt(record.id, None, spool)

    def read_limits(self, record: Record, request: Request, handle: Job) -> None:
        """Have the record say what the leaf says: a daemon may have died between the two."""
        files = list(record.limits)
        if not files:
            with suppress(JobsupError):  # its user is gone by now
                files = [knob.file for knob in self._translated(record, request)[1].knobs]
        record.limits |= handle.in_force(files)

    def _connect(self, job_id: str) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(f"/proc/self/fd/{self._control}/{job_id}")
        except OSError as error:
            connection.close()
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET):
                return None
            raise
        return connection

    def controls(self) -> set[str]:
        """The ids of the jobs that were launched, and of whose end this directory was not told."""
        names = {*os.listdir(self._control), *os.listdir(self._paths.records)}
        return {name for name in names if not name.startswith(".")}

    def kept_ids(self) -> list[str]:
        """The ids of all jobs that have files."""
        return os.listdir(self._paths.jobs)

    def kept(self, job_id: str) -> Record | None:
        """The record that was kept at a launch, of the last attempt that left anything; or before
        the first one, of a job that waits for it."""
        directory = self._paths.job(job_id)
        attempts: list[int] = []
        with suppress(FileNotFoundError):
            attempts = [int(name) for name in os.listdir(directory) if name.isdecimal()]
        record = _read(self._paths.records / job_id) or _read(directory / "job")
        if record is None:
            record = _read(directory / "queued")
            if record is None or not attempts:
                return record
        record.attempt = max(record.attempt, *attempts, 1)
        record.seq, record.state, record.due_ns = 0, State.STARTING, None
        return record

    def end_unknown(self, job_id: str) -> bool:
        """Kill the job of an init that no record speaks of; whether there was one."""
        control = self._connect(job_id)
        if control is not None:
            _adopted(job_id, control, None).conclude(None)
        self.forget_control(job_id)
        self.remove(job_id)
        return control is not None

    def forget_control(self, job_id: str) -> None:
        """Its end is durable: nothing is to be found of it by a daemon without records."""
        with suppress(FileNotFoundError):
            os.unlink(job_id, dir_fd=self._control)
        with suppress(FileNotFoundError):
            os.unlink(self._paths.records / job_id)
        with suppress(OSError):  # it did not wait, or there is more of it
            os.unlink(self._paths.job(job_id) / "queued")
            os.rmdir(self._paths.job(job_id))

    def forget_uploads(self) -> None:
        """Remove input whose upload was cut short; to be called before there are any others."""
        for entry in os.scandir(self._paths.incoming):
            os.unlink(entry.path)

    def forget_attempts(self, job_id: str, below: int) -> None:
        """Remove the spools of old runs."""
        with suppress(FileNotFoundError):  # they were removed under a job that runs
            for entry in os.scandir(self._paths.job(job_id)):
                if entry.name.isdecimal() and int(entry.name) < below:
                    shutil.rmtree(entry.path)

    def remove(self, job_id: str) -> None:
        """Remove every file of a job; two may do so at once."""
        shutil.rmtree(self._paths.job(job_id), onerror=_unless_gone)

    def remove_output(self, job_id: str) -> None:
        """Make room. What says that the job was run, and how it ended, stays."""
        for path in self._output_of(job_id):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def spool_bytes(self, job_id: str) -> int:
        """How much of the disk a job's files take up, as far as they are output."""
        total = 0
        for path in self._output_of(job_id):
            with suppress(OSError):
                total += os.stat(path).st_size
        return total

    def _output_of(self, job_id: str) -> Iterator[str]:
        directory = os.fspath(self._paths.job(job_id))
        yield f"{directory}/stdin"
        with suppress(FileNotFoundError):
            for attempt in filter(str.isdecimal, os.listdir(directory)):
                for name in ("stdout", "stderr", "output.index"):
                    yield f"{directory}/{attempt}/{name}"


def _adopted(job_id: str, control: socket.socket, spool: int | None) -> Job:
    try:
        return adopt(job_id, control, spool)
    except BaseException:
        control.close()
        raise


def _unless_gone(_call: object, _path: str, raised: tuple[Any, BaseException, Any]) -> None:
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def _write_whole(path: Path, data: bytes) -> None:
    """Whatever ends this process, the file is whole or not there. After a loss of power it may be
    empty as well, unless it is synced, which a launch does not wait for; `_read` finds nothing in
    it then, and the database, which is synced, is what counts."""
    half = path.with_name(f".{path.name}")
    half.write_bytes(data)
    half.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_empty(path: Path) -> bool:
    """Whether there is nothing in the file, or no file."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _read(path: Path) -> Record | None:
    """None: there is none, or what is there is no record."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
