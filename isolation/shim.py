"""The one module that touches the compiled one: its numbers, the call that starts an init, and the
change of a thread's rights."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._native import ffi, lib
from .errors import LaunchFailed

_STAGES = {
    lib.SPAWN_CLONE: "clone3 of the init",
    lib.SPAWN_DESCRIPTORS: "handing the init its descriptors",
    lib.SPAWN_EXEC: "executing the init",
}


class Spawned(NamedTuple):
    """A running init: its pid here, and a pidfd that the caller owns."""

    pid: int
    pidfd: int


def constant(name: str) -> int:
    """A number of native/abi.h by its name there."""
    return int(getattr(lib, name))


def spawn(program: int, cgroup: int, namespaces: int, slots: Sequence[int]) -> Spawned:
    """Start the program behind the descriptor `program` in the cgroup directory `cgroup` and in
    new namespaces (os.CLONE_NEW* bits), with `slots` as its descriptors 0, 1, 2 … (-1: closed).

    The calling thread sleeps until the program is executed (vfork); the GIL is free meanwhile.

    Raises:
        LaunchFailed: the stage that failed, and the kernel's reason.
    """
    numbers = ffi.new("int[]", list(slots))
    result = lib.jobsup_spawn(program, cgroup, namespaces, numbers, len(slots))
    if result.pid < 0:
        raise LaunchFailed(_STAGES[result.stage], result.error)
    return Spawned(result.pid, result.pidfd)


def end(spawned: Spawned, seconds: float) -> None:
    """Wait for an init that has been told to end; kill one that has not ended after `seconds`."""
    poll = select.poll()
    poll.register(spawned.pidfd, select.POLLIN)
    if not poll.poll(seconds * 1000):
        signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)


def reap(spawned: Spawned) -> None:
    """Wait for an init that is on its way out, and release its pidfd."""
    try:
        # P_PIDFD: never a stranger who got the pid meanwhile.
        os.waitid(os.P_PIDFD, spawned.pidfd, os.WEXITED)
    except ChildProcessError:
        pass  # the program around us ignores SIGCHLD, or waits for every child by itself
    finally:
        os.close(spawned.pidfd)


class Kept(NamedTuple):
    """The rights that a thread had before."""

    state: Any  # cffi's struct rights_kept
    groups: list[int]


def take_rights(uid: int, gid: int, groups: Sequence[int]) -> Kept:
    """Give the calling thread, and no other, these file system ids and groups and no effective
    capability.

    Raises:
        OSError: it may not; it has what it had.
    """
    kept = Kept(ffi.new("struct rights_kept *"), os.getgroups())
    wanted, own = (ffi.new("uint32_t[]", list(gids)) for gids in (groups, kept.groups))
    error = lib.jobsup_take_rights(uid, gid, wanted, len(groups), kept.state, own, len(kept.groups))
    if error:
        raise OSError(error, os.strerror(error))
    return kept


def give_back_rights(kept: Kept) -> None:
    """The way back. A thread that does not have all of its own rights again must not go on, in
    whatever it does next: the process ends."""
    own = ffi.new("uint32_t[]", kept.groups)
    if lib.jobsup_give_back_rights(kept.state, own, len(kept.groups)):
        os.abort()
