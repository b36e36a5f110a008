"""The one module that touches the compiled one: its numbers, and the call that starts an init."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from typing import NamedTuple

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
