"""From walls to a running init, and back to its exit record.

`launch` gives one handle. Its socket is readable when the init says something and at EOF, which
means *ask*, not *done*: `conclude` then kills what may be left, sees the leaf empty, reaps the init
and returns the record, or None when the init was lost before it could write one. Nothing is
created before every path and device of the request has been found.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from _thread import allocate_lock
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from . import controllers, devices, hierarchy, protection
from .cgroup import Leaf
from .errors import HostNotSupported, LaunchFailed
from .plan import Plan, compile_plan
from .record import ExitRecord, decode
from .shim import Spawned, constant, end, reap, spawn
from .walls import Knob, Limits, Walls

_INIT = os.path.join(os.path.dirname(__file__), "_init")
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000  # NEWNS NEWUTS NEWIPC NEWPID
NEW_NETWORK = 0x40000000
_MFD_NOEXEC_SEAL, _MFD_EXEC = 0x08, 0x10  # memfd_create(2)
_REQUEST = struct.Struct("=2IQ")
_MESSAGE = struct.Struct("=2I")
_RECORD_MAX = constant("RECORD_MAX")
_EMPTY_SECONDS = 60.0


class Streams(NamedTuple):
    """The descriptors that an init reads and writes for its job; None: nobody's. They stay the
    caller's, who may close them once the job is launched. None of them reaches the job itself.

    With `spool`, a directory, the job is kept: its output goes to the files stdout and stderr
    there, when and what in output.index, and its exit record to exit, all of it synced.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    spool: int | None = None


class Started(NamedTuple):
    """The command was executed, at CLOCK_REALTIME `realtime_ns`."""

    realtime_ns: int


# The descriptor of the init's program and what it is: a program that becomes a daemon closes what
# it does not know, and the number may be another file's by now.
_program: tuple[int, int, int] | None = None
_program_lock = allocate_lock()


def init_program() -> int:
    """A descriptor of the init's program, sealed: the binary behind /proc/1/exe can never be
    written (CVE-2019-5736), and no path of the job's leads to it. Made once a process.

    Raises:
        LaunchFailed: it is not there, or cannot be read.
    """
    global _program
    with _program_lock:
        if _program is None or _identity(_program[0]) != _program:
            _program = _identity(_open_program())
        return _program[0]


def _identity(descriptor: int) -> tuple[int, int, int]:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return -1, 0, 0
    return descriptor, status.st_dev, status.st_ino


def _open_program() -> int:
    try:
        with open(_INIT, "rb") as file:
            image = file.read()
        try:
            return _memfd("jobsup-init", image, _MFD_EXEC)
        except OSError:
            # vm.memfd_noexec=2 forbids it; the file itself can still be executed by descriptor.
            return os.open(_INIT, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchFailed(f"opening the init's program {_INIT}", error.errno) from error


def sealed_plan(data: bytes) -> int:
    """A descriptor of a plan that nobody can change any more.

    Raises:
        LaunchFailed: the kernel does not make a memfd.
    """
    try:
        return _memfd("jobsup-plan", data, _MFD_NOEXEC_SEAL)
    except OSError as error:
        raise LaunchFailed("making a memfd of the plan", error.errno) from error


def _memfd(name: str, data: bytes, executable: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Said, not left out: vm.memfd_noexec judges those that say nothing.
        descriptor = os.memfd_create(name, flags | executable)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        descriptor = os.memfd_create(name, flags)  # before Linux 6.3
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


# What a fork of the program around us must not hold: with a copy of a job's socket, its init would
# not see that we are gone; with one of its leaf, the leaf would stay locked.
_private: set[socket.socket | Leaf] = set()


def _after_fork() -> None:
    for held in _private:
        held.close()
    _private.clear()


os.register_at_fork(after_in_child=_after_fork)


def _close(held: socket.socket | Leaf) -> None:
    _private.discard(held)
    held.close()


class Job:
    """A launched init, its socket and its leaf."""

    def __init__(
        self,
        spawned: Spawned,
        control: socket.socket,
        leaf: Leaf,
        plan: Plan,
        limits: dict[str, str],
        place: hierarchy.Hierarchy,
    ) -> None:
        self.limits = limits
        self._place = place
        self._spawned = spawned
        self._control = control
        self._leaf = leaf
        self._plan = plan
        self._record: ExitRecord | None = None

    @property
    def pid(self) -> int:
        """The init's pid, as this process sees it."""
        return self._spawned.pid

    def fileno(self) -> int:
        """Readable when `receive` has something to say."""
        return self._control.fileno()

    def receive(self) -> Started | ExitRecord | None:
        """The init's next message; None at EOF. Blocks until there is one."""
        data = self._control.recv(_MESSAGE.size + _RECORD_MAX)
        if len(data) < _MESSAGE.size:
            return None
        kind, size = _MESSAGE.unpack_from(data)
        payload = data[_MESSAGE.size :]
        if len(payload) != size:
            raise LaunchFailed("the init sent a message of the wrong length")
        if kind == constant("MESSAGE_STARTED"):
            return Started(*struct.unpack("=Q", payload))
        self._record = decode(payload)
        if self._record.failure is not None:  # only then are the steps worth listing
            self._record = decode(payload, self._plan.steps)
        return self._record

    def signal(self, number: int) -> None:
        """Send a signal to the process group of the job's first process."""
        self._request(constant("REQUEST_SIGNAL"), number)

    def stop(self, number: int, grace_ms: int) -> None:
        """Send `number`, and kill what is left after `grace_ms`."""
        self._request(constant("REQUEST_STOP"), number, grace_ms)

    def kill(self) -> None:
        """Kill every process of the job."""
        self._request(constant("REQUEST_KILL"))

    def _request(self, kind: int, number: int = 0, grace_ms: int = 0) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended by itself
            self._control.send(_REQUEST.pack(kind, number, grace_ms))

    def conclude(self) -> ExitRecord | None:
        """After EOF (or to give the job up): make sure that nothing is left, and the record.

        Raises:
            LaunchFailed: a process of the job cannot be killed (it sleeps in the kernel).
        """
        _close(self._control)
        emptied = True
        try:
            if self._record is None or self._record.leaf_stays:
                self._leaf.kill()
                # One after the other: nothing wakes who waits at a leaf that somebody else removes
                # (the notice of its last process comes late, and goes with the file).
                end(self._spawned, _EMPTY_SECONDS)
                emptied = self._leaf.clear(_EMPTY_SECONDS)
        finally:
            _close(self._leaf)
            reap(self._spawned)
        if not self.limits.keys().isdisjoint(protection.FILES):
            protection.settle(self._place)
        if not emptied and self._record is None:
            raise LaunchFailed(f"cgroup {self._leaf.name} cannot be emptied: see its processes")
        return self._record


def launch(
    walls: Walls, limits: Limits, name: str, streams: Streams, *, outlive: bool = False
) -> Job:
    """Start one job in its own leaf `name`. It ends when the returned handle's process does,
    unless it is to `outlive` it.

    Raises:
        HostNotSupported: no usable cgroup v2, or not root.
        LimitNotEnforceable: a limit that would not hold.
        PathRefused: a path or device that the job cannot have.
        LaunchFailed: the init did not start.
    """
    knobs = [*limits.knobs, *devices.io_knobs(limits.io)]
    _require_host(knobs)
    leaf_path = os.fsencode(hierarchy.locate().leaf(name))
    plan = compile_plan(walls, leaf_path, peer_loss_ends=not outlive)
    place = hierarchy.open_hierarchy()
    _make_hidden(walls.files.hidden)
    try:
        return _start(walls, plan, knobs, place, name, streams)
    except OSError as error:  # no descriptors left, no memory
        raise LaunchFailed("starting the job", error.errno) from error


def _start(
    walls: Walls,
    plan: Plan,
    knobs: Sequence[Knob],
    place: hierarchy.Hierarchy,
    name: str,
    streams: Streams,
) -> Job:
    with ExitStack() as on_failure, ExitStack() as always:
        leaf = Leaf.make(place, name)
        _private.add(leaf)
        on_failure.callback(_close, leaf)
        on_failure.callback(leaf.clear)
        # A job of root's that mounts cgroup2 in a user namespace could make groups in its leaf,
        # which then could not be removed.
        leaf.write("cgroup.max.descendants", "0")
        in_force = leaf.apply(knobs)
        if protected := [file for file in protection.FILES if file in in_force]:
            protection.extend(place, protected)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _private.update((ours, theirs))
        on_failure.callback(_close, ours)
        always.callback(_close, theirs)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _RECORD_MAX)
        inits, jobs = (_directory(path, always) for path in (place.inits, place.jobs))
        slots = [-1, theirs.fileno(), leaf.descriptor, jobs, *_numbers(streams)]
        present = sum(1 << i for i, fd in enumerate(slots) if fd >= 0) | 1
        slots[0] = sealed_plan(plan.encode(name, present))
        always.callback(os.close, slots[0])
        namespaces = NAMESPACES | (NEW_NETWORK if walls.network == "none" else 0)
        spawned = spawn(init_program(), inits, namespaces, slots)
        on_failure.pop_all()
    return Job(spawned, ours, leaf, plan, in_force, place)


def _make_hidden(directories: Sequence[bytes]) -> None:
    """What is to be hidden from a job must be there: one that appeared while it runs would appear
    in it. Where it cannot be made, nobody else makes it."""
    for path in directories:
        if not os.path.isdir(path):
            with suppress(OSError):
                os.makedirs(path, mode=0o700, exist_ok=True)


def _numbers(streams: Streams) -> list[int]:
    slots = (streams.stdin, streams.stdout, streams.stderr, streams.spool)
    return [-1 if fd is None else fd for fd in slots]


def _directory(path: str, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _require_host(knobs: Sequence[Knob]) -> None:
    """Say what is missing before anything is made."""
    if os.geteuid() != 0:
        raise HostNotSupported(
            "only root can build a job's walls", hint="run it with sudo, or as root"
        )
    controllers.require(knob.file for knob in knobs)
