"""Which cgroup controllers jobs can have on this host, and why they cannot have the others.

Nothing is made here: a host that lacks what a job needs is refused before it is touched. Sources:
cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from .errors import HostNotSupported, LimitNotEnforceable
from .mountinfo import host_mounts

CONTROLLERS = ("cpu", "memory", "io", "pids", "cpuset")
UNIFIED = (
    "boot with cgroup v2 alone (kernel arguments systemd.unified_cgroup_hierarchy=1 "
    "cgroup_no_v1=all), or use ./run in a checkout, which brings a kernel"
)
# The names that the kernel and cgroup v1 have for them, and what builds them in.
_KERNEL_NAMES = {"io": "blkio"}
_OPTIONS = {
    "cpu": "CONFIG_CFS_BANDWIDTH=y",
    "memory": "CONFIG_MEMCG=y",
    "io": "CONFIG_BLK_DEV_THROTTLING=y",
    "pids": "CONFIG_CGROUP_PIDS=y",
    "cpuset": "CONFIG_CPUSETS=y",
}


class MountPoint(NamedTuple):
    """One line of /proc/self/mountinfo that is a cgroup file system (proc(5))."""

    path: str
    version: int
    options: frozenset[str]


def cgroup_mounts() -> list[MountPoint]:
    """The cgroup file systems of this mount namespace, in the order of their mounting."""
    versions = {b"cgroup": 1, b"cgroup2": 2}
    return [
        MountPoint(
            os.fsdecode(mount.target),
            versions[mount.type],
            frozenset(map(os.fsdecode, mount.options)),
        )
        for mount in host_mounts()
        if mount.type in versions
    ]


def v1_controllers() -> frozenset[str]:
    """The controllers that a cgroup v1 hierarchy holds, so that v2 cannot have them. The hierarchy
    may be mounted elsewhere, outside of this container; /proc/cgroups tells all the same."""
    return frozenset(name for name, (where, _) in _subsystems().items() if where != 0)


def _subsystems() -> dict[str, tuple[int, bool]]:
    """Of each controller that the kernel lists: the id of its v1 hierarchy (0: none), and whether
    it is switched on; cgroups(7)."""
    try:
        with open("/proc/cgroups", encoding="ascii") as file:
            rows = {row[0]: row for row in map(str.split, file)}
    except FileNotFoundError:
        return {}
    names = {name: _KERNEL_NAMES.get(name, name) for name in CONTROLLERS}
    return {
        name: (int(rows[known][1]), rows[known][3] == "1")
        for name, known in names.items()
        if known in rows
    }


def available(directory: str) -> frozenset[str]:
    """The controllers that can be enabled below a cgroup."""
    return words(f"{directory}/cgroup.controllers")


@cache
def find_mount() -> str:
    """The mount point of cgroup v2.

    Raises:
        HostNotSupported: there is none.
    """
    mounts = [mount for mount in cgroup_mounts() if mount.version == 2]
    if not mounts:
        raise HostNotSupported("no cgroup v2 hierarchy is mounted on this host", hint=UNIFIED)
    return mounts[0].path


def obstacle(directory: str) -> tuple[str, str] | None:
    """What keeps a cgroup from handing controllers on to its children, and what to do about it
    (cgroup-v2.rst, "No Internal Process Constraint" and "Threads")."""
    try:
        with open(f"{directory}/cgroup.type", encoding="ascii") as file:
            kind = file.read().strip()
    except FileNotFoundError:
        return None  # the root of all is exempt
    if kind != "domain":
        return f"the cgroup {directory} is {kind}", "use a group whose cgroup.type is domain"
    with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
        if file.read(1):
            return (
                f"the cgroup {directory} has processes of its own",
                f"move them into a child first: mkdir {directory}/init; for p in $(cat "
                f"{directory}/cgroup.procs); do echo $p > {directory}/init/cgroup.procs; done",
            )
    return None


def why_missing(controller: str) -> tuple[str, str]:
    """Why cgroup v2 lacks a controller here, as words to put before its name, and the remedy."""
    if controller in v1_controllers():
        return "cgroup v1 holds", UNIFIED
    name = _KERNEL_NAMES.get(controller, controller)
    _, enabled = _subsystems().get(controller, (0, None))
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
        asked = [word.partition("=") for word in file.read().split()]
    disabled = {n for key, _, names in asked if key == "cgroup_disable" for n in names.split(",")}
    if enabled is False or name in disabled:
        return (
            "the kernel was booted without",
            f"remove cgroup_disable={name} from the kernel command line, or add "
            f"cgroup_enable={name} to it",
        )
    if enabled:
        return (
            f"cgroup v2 at {find_mount()} is not given",
            f"from outside of the container, write +{controller} to the cgroup.subtree_control of "
            "the groups above it, or start it with a delegated cgroup",
        )
    return "this kernel does not have", f"use a kernel with {_OPTIONS[controller]}"


def missing_reason(controllers: frozenset[str]) -> tuple[str, str]:
    """Why jobs cannot have `controllers` here, and what to do about it."""
    mount = find_mount()
    # Where the host has it and a leaf does not, it was not handed on.
    if controllers <= available(mount) and (blocked := obstacle(mount)):
        return blocked
    causes: dict[str, list[str]] = {}
    remedies: dict[str, None] = {}
    for controller in sorted(controllers):
        cause, remedy = why_missing(controller)
        causes.setdefault(cause, []).append(controller)
        remedies[remedy] = None
    told = (
        f"{cause} the controller{'s' * (len(names) > 1)} {', '.join(names)}"
        for cause, names in causes.items()
    )
    return "; ".join(told), "; ".join(remedies)


def require(files: Iterable[str]) -> None:
    """Refuse a host that lacks a controller of these files of a leaf, before anything is made
    there. All that is missing is told at once, with the first file that needs some of it.

    Raises:
        HostNotSupported: there is no cgroup v2 at all.
        LimitNotEnforceable: controllers are missing.
    """
    here = available(find_mount())
    wanted = [(file.partition(".")[0], file) for file in files]
    missing = [pair for pair in wanted if pair[0] in CONTROLLERS and pair[0] not in here]
    if missing:
        cause, hint = missing_reason(frozenset(controller for controller, _ in missing))
        raise LimitNotEnforceable(missing[0][1], cause, hint=hint)


def words(path: str) -> frozenset[str]:
    """The words of a file such as cgroup.subtree_control."""
    # Not open(): a file object makes nine system calls of these three, on every launch.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return frozenset(os.read(descriptor, 4096).decode().split())
    finally:
        os.close(descriptor)
