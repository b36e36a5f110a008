"""From walls to a running init and its handle (job.py).

Nothing is created before every path and device of the request has been found. Several threads may
launch at once: what is shared is made under a lock, or is as good when it is made twice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from _thread import allocate_lock
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from . import controllers, devices, hierarchy, protection
from .cgroup import Leaf
from .errors import HostNotSupported, LaunchFailed
from .job import RECORD_MAX, Job, Parts, directory_path, hold, release
from .killpoints import reached
from .plan import Plan, compile_plan
from .shim import spawn
from .walls import Knob, Limits, Walls

_INIT = os.path.join(os.path.dirname(__file__), "_init")
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000  # NEWNS NEWUTS NEWIPC NEWPID
NEW_NETWORK = 0x40000000
_MFD_NOEXEC_SEAL, _MFD_EXEC = 0x08, 0x10  # memfd_create(2)


class Streams(NamedTuple):
    """The descriptors that an init reads and writes for its job; None: nobody's. They stay the
    caller's, who may close them once the job is launched. None of them reaches the job itself.

    Attributes:
        stdin: a pipe, or a regular file, which the init copies to the job by itself.
        stdout, stderr: where output goes, with back-pressure.
        spool: a directory. The job's exit record goes to the file exit there, synced, and so does
            its output, unless stdout or stderr is given: to the files stdout and stderr, when and
            what to output.index.
        lifeline: a pipe or socket; when its other end is closed, the job ends.
        listener: a bound SOCK_SEQPACKET socket. Who connects to it, as root, is in charge of the
            job from then on (`job.adopt`). The caller closes it, or it outlives the init.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    spool: int | None = None
    lifeline: int | None = None
    listener: int | None = None


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
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


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
    knobs = [*limits.knobs, *devices.io_knobs(limits.io, walls.files.resolve_as)]
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
        hold(leaf)
        on_failure.callback(release, leaf)
        on_failure.callback(leaf.clear)
        reached("leaf-made")
        # A job of root's that mounts cgroup2 in a user namespace could make groups in its leaf,
        # which then could not be removed.
        leaf.write("cgroup.max.descendants", "0")
        in_force = leaf.apply(knobs)
        if protected := [file for file in protection.FILES if file in in_force]:
            protection.extend(place, protected)
        reached("leaf-limited")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hold(ours, theirs)
        on_failure.callback(release, ours)
        always.callback(release, theirs)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECORD_MAX)
        inits, jobs = (_directory(path, always) for path in (place.inits, place.jobs))
        slots = [-1, theirs.fileno(), leaf.descriptor, jobs, *_numbers(streams)]
        present = sum(1 << i for i, fd in enumerate(slots) if fd >= 0) | 1
        slots[0] = sealed_plan(plan.encode(name, present))
        always.callback(os.close, slots[0])
        namespaces = NAMESPACES | (NEW_NETWORK if walls.network == "none" else 0)
        spool = None if streams.spool is None else directory_path(streams.spool)
        init = spawn(init_program(), inits, namespaces, slots)
        reached("cloned")
        on_failure.pop_all()
    return Job(Parts(name, ours, init, leaf, place, spool), in_force, plan.steps)


def _make_hidden(directories: Sequence[bytes]) -> None:
    """What is to be hidden from a job must be there: one that appeared while it runs would appear
    in it. Where it cannot be made, nobody else makes it."""
    for path in directories:
        if not os.path.isdir(path):
            with suppress(OSError):
                os.makedirs(path, mode=0o700, exist_ok=True)


def _numbers(streams: Streams) -> list[int]:
    slots = (*streams[:4], streams.listener, streams.lifeline)
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
