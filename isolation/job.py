"""The handle of one job whose init runs, or ran: what it says, what it may be asked, its end.

Its socket is readable when the init says something and at EOF, which means *ask*, not *done*:
`conclude` then kills what may be left, sees the leaf empty, sees the init gone and returns the
record: the one that was received, else the one that the init stored, else None. The way is the same
for a job that this process launched and for one that it adopted.

A job with a listener has one handle at a time: with a second connection the first one sees EOF, and
must be dropped without `conclude` by whoever made both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from _thread import allocate_lock
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from . import devices, hierarchy, protection
from .cgroup import GONE, Leaf
from .change import change
from .errors import JobsupError, LaunchFailed, LimitNotEnforceable
from .killpoints import reached
from .plan import compile_plan
from .record import EndedBy, ExitRecord, decode
from .shim import Spawned, constant, end, reap
from .steps import Step
from .walls import Identity, Limits, Walls

RECORD_MAX = constant("RECORD_MAX")
_REQUEST = struct.Struct("=2IQ")
_MESSAGE = struct.Struct("=2I")
_STATUS = struct.Struct("=Q2I")
_CREDENTIALS = struct.Struct("=3i")
_EMPTY_SECONDS = 60.0
# What is worth knowing of a job that runs; one that this kernel lacks is left out.
_LIVE_COUNTERS = (
    "memory.current memory.peak memory.events memory.swap.current cpu.stat io.stat pids.current "
    "pids.peak pids.events"
).split()


class Status(NamedTuple):
    """How a job is, as its init says at exec, to who has just connected, and at each change.

    `started_ns` is CLOCK_REALTIME at exec, 0 before it. `paused`: every process is frozen.
    `ending`: what the init is ending it for, NOTHING while it is not.
    """

    started_ns: int
    paused: bool
    ending: EndedBy


# What a fork of the program around us must not hold: with a copy of a job's socket, its init would
# not see that we are gone; with one of its leaf, the leaf would stay locked.
_private: set[socket.socket | Leaf] = set()


def _after_fork() -> None:
    for held in _private:
        held.close()
    _private.clear()


os.register_at_fork(after_in_child=_after_fork)


def hold(*held: socket.socket | Leaf) -> None:
    """No fork of this process gets these."""
    _private.update(held)


def release(held: socket.socket | Leaf) -> None:
    """Close what was held."""
    _private.discard(held)
    held.close()


class Parts(NamedTuple):
    """What a Job is made of and owns. None: no init answers, its init is not known, the leaf is
    gone, nothing is stored. `spool` is the path of the job's directory."""

    name: str
    control: socket.socket | None
    init: Spawned | None
    leaf: Leaf | None
    place: hierarchy.Hierarchy
    spool: bytes | None


class Job:
    """A job, from its launch or adoption to `conclude`, which is to be called once.

    Attributes:
        limits: the leaf's files that were written, as read back; of an adopted job those that were
            changed since.
    """

    def __init__(
        self, parts: Parts, limits: dict[str, str], steps: tuple[Step, ...] | None = None
    ) -> None:
        self.limits = limits
        self._name, self._control, self._init, self._leaf, self._place, self._spool = parts
        self._steps = steps
        self._data: bytes | None = None
        self._leaf_lock = allocate_lock()

    @property
    def adopted(self) -> bool:
        """Whether another process launched it: the steps of its plan are not known here."""
        return self._steps is None

    @property
    def pid(self) -> int | None:
        """The init's pid, as this process sees it; None when no init answers."""
        return self._init.pid if self._init else None

    def fileno(self) -> int:
        """Readable when `receive` has something to say; -1 when no init answers."""
        return self._control.fileno() if self._control else -1

    def receive(self) -> Status | ExitRecord | None:
        """The init's next message; None at EOF. Blocks until there is one."""
        data = b""
        if self._control:
            with suppress(ConnectionResetError):  # it ended before it saw who had connected
                data = self._control.recv(_MESSAGE.size + RECORD_MAX)
        if len(data) < _MESSAGE.size:
            return None
        kind, size = _MESSAGE.unpack_from(data)
        payload = data[_MESSAGE.size :]
        if len(payload) != size:
            raise LaunchFailed("the init sent a message of the wrong length")
        if kind == constant("MESSAGE_STATUS"):
            started_ns, paused, ending = _STATUS.unpack(payload)
            return Status(started_ns, bool(paused), EndedBy(ending))
        self._data = payload
        return self._decoded(payload, None)

    def signal(self, number: int) -> None:
        """Send a signal to the process group of the job's first process."""
        self._request("REQUEST_SIGNAL", number)

    def stop(self, number: int, grace_ms: int) -> None:
        """Send `number`, and kill what is left after `grace_ms`. A paused job goes on for that."""
        self._request("REQUEST_STOP", number, grace_ms)

    def kill(self) -> None:
        """Kill every process of the job."""
        self._request("REQUEST_KILL")

    def pause(self) -> None:
        """Freeze every process of the job; a Status says when they are. Its wall time stands
        still. A job that is being ended is not paused."""
        self._request("REQUEST_PAUSE")

    def resume(self) -> None:
        """Let a paused job go on."""
        self._request("REQUEST_RESUME")

    def _request(self, kind: str, number: int = 0, grace_ms: int = 0) -> None:
        if self._control:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended by itself
                self._control.send(_REQUEST.pack(constant(kind), number, grace_ms))

    def detach(self) -> None:
        """Let go of a job that is to go on without this process, and may be adopted by another."""
        if self._control:
            release(self._control)
        if self._leaf:
            release(self._leaf)
        if self._init:
            os.close(self._init.pidfd)

    def change(self, limits: Limits, resolve_as: Identity | None = None) -> dict[str, str]:
        """Give the running job other limits; what is in force then. Blocks: the kernel may first
        have to reclaim memory. A memory.max below what it cannot reclaim is refused.
        `resolve_as`: whose paths those of io_max are, as in Files.

        Raises:
            LimitNotEnforceable: one is refused, or the job has ended; nothing has changed.
            PathRefused: a device that cannot be limited.
        """
        knobs = [*limits.knobs, *devices.io_knobs(limits.io, resolve_as)]
        try:
            with self._shared_leaf() as leaf:
                in_force = change(leaf, self._place, knobs)
        except OSError as error:
            if error.errno not in GONE or not knobs:
                raise
            raise LimitNotEnforceable(knobs[0].file, "the job has ended") from error
        self.limits = self.limits | in_force
        return in_force

    def counters(self) -> dict[str, str]:
        """Files of the leaf as the kernel prints them now; none once it is gone."""
        return self.in_force(_LIVE_COUNTERS)

    def in_force(self, files: Iterable[str]) -> dict[str, str]:
        """What these files of the live leaf hold now; none once it is gone."""
        found = {}
        with suppress(FileNotFoundError), self._shared_leaf() as leaf:
            for file in files:
                with suppress(OSError):  # ENOENT: not of this kernel; ENODEV: gone
                    found[file] = leaf.read(file)
        return found

    @contextmanager
    def _shared_leaf(self) -> Iterator[Leaf]:
        """The leaf by a descriptor of its own: another thread may conclude the job meanwhile, and
        the number would be another file's."""
        with self._leaf_lock:
            if self._leaf is None:
                raise FileNotFoundError(errno.ENOENT, "the leaf is gone", self._name)
            shared = self._leaf.duplicate()
        try:
            yield shared
        finally:
            shared.close()

    def conclude(self, walls: Walls | None = None) -> ExitRecord | None:
        """After EOF (or to give the job up): make sure that nothing is left, and the record.
        Blocks. With the `walls` of an adopted job a step of its that failed is told in its words.

        Raises:
            LaunchFailed: a process of the job cannot be killed (it sleeps in the kernel).
        """
        if self._control:
            release(self._control)
        emptied = self._clear()
        if self._steps is None or not self.limits.keys().isdisjoint(protection.FILES):
            protection.settle(self._place)
        data = self._data or self._stored()
        if data is not None:
            return self._decoded(data, walls)
        if not emptied:
            raise LaunchFailed(f"cgroup {self._name} cannot be emptied: see its processes")
        return None

    def _clear(self) -> bool:
        """Until neither a process nor the init is left; False: some stay."""
        emptied = True
        try:
            if self._leaf and (self._data is None or decode(self._data).leaf_stays):
                emptied = self._empty(self._leaf)
                reached("leaf-cleared")
        finally:
            with self._leaf_lock:
                leaf, self._leaf = self._leaf, None
            if leaf:
                release(leaf)
            if self._init:
                reap(self._init)
        reached("init-reaped")
        return emptied

    def _empty(self, leaf: Leaf) -> bool:
        leaf.kill()
        # One after the other: nothing wakes who waits at a leaf that somebody else removes (the
        # notice of its last process comes late, and goes with the file).
        if self._init:
            end(self._init, _EMPTY_SECONDS)
        else:
            # An init that does not answer holds its lock as long as it lives.
            fcntl.flock(leaf.descriptor, fcntl.LOCK_EX)
        return leaf.clear(_EMPTY_SECONDS)

    def _stored(self) -> bytes | None:
        """The record that the init left in the spool. One that is not there, or not to be read, is
        none: how the job ended is not known."""
        if self._spool is None:
            return None
        try:
            with open(self._spool + b"/exit", "rb") as file:
                data = file.read(RECORD_MAX + 1)
            decode(data)
        except (OSError, ValueError):
            return None
        return data

    def _decoded(self, data: bytes, walls: Walls | None) -> ExitRecord:
        record = decode(data)
        if record.failure is None:  # only then are the steps worth listing
            return record
        if self._steps is None and walls is not None:
            leaf = os.fsencode(self._place.leaf(self._name))
            with suppress(JobsupError):  # the host's paths have changed: its number must do
                return decode(data, compile_plan(walls, leaf).steps)
        return decode(data, self._steps or ())


def adopt(name: str, control: socket.socket | None, spool: int | None) -> Job:
    """The handle of a job `name` that another process launched with a listener and a spool.

    `control` is connected to the listener and becomes the job's, which closes it; None when nobody
    answers there. `spool`, the directory's descriptor, stays the caller's; None when it is gone.

    Raises:
        HostNotSupported: no usable cgroup v2.
    """
    place = hierarchy.open_hierarchy()
    leaf = Leaf.find(place, name)
    init = _init_of(control, place.leaf(name)) if control else None
    hold(*(held for held in (control, leaf) if held))
    path = None if spool is None else directory_path(spool)
    return Job(Parts(name, control, init, leaf, place, path), {})


def _init_of(control: socket.socket, leaf: str) -> Spawned | None:
    """The init at the other end, which listens there itself. None when it is not sure that it is:
    when it has ended, or when it does not listen yet and the pid is that of who bound the socket.
    """
    size = _CREDENTIALS.size
    pid, _, _ = _CREDENTIALS.unpack(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    # No other process has the directory of this leaf in that slot.
    with suppress(OSError):
        if os.readlink(f"/proc/{pid}/fd/{constant('SLOT_LEAF')}") == leaf:
            return Spawned(pid, descriptor)
    os.close(descriptor)
    return None


def directory_path(descriptor: int) -> bytes:
    """Where the directory behind a descriptor is. A job keeps that, and not the descriptor: with a
    thousand jobs they count."""
    return os.readlink(f"/proc/self/fd/{descriptor}".encode())
