"""Where jobs live in the host's cgroup tree, made on first use.

    <base>/inits        every init; no limits
    <base>/jobs         the ceiling for the sum of all jobs, so that the host keeps its share
    <base>/jobs/<leaf>  one job's workload, with its limits

`base` is a group of our own at the top of the tree, or on a systemd host the delegated cgroup of a
keeper unit (keeper.py), since there only what is delegated may be written. The three groups stay
when the last job has gone, as a slice does; leaves never do.

Each leaf's directory is locked (flock) by its init and by whoever started it. A leaf that nobody
locks lost both to SIGKILL: `sweep` removes it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from . import keeper
from .errors import HostNotSupported, LimitNotEnforceable

CONTROLLERS = ("cpu", "memory", "io", "pids", "cpuset")
_UNIFIED = (
    "boot with cgroup v2 alone: add systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all to the "
    "kernel command line, or run the job in a guest kernel (./run in a checkout, or vagrant/)"
)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The groups that jobs live in, as directories of the host."""

    mount: str
    base: str

    @property
    def inits(self) -> str:
        return f"{self.base}/inits"

    @property
    def jobs(self) -> str:
        return f"{self.base}/jobs"

    def leaf(self, name: str) -> str:
        return f"{self.jobs}/{name}"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of /proc/self/mountinfo that is a cgroup file system (proc(5))."""

    path: str
    version: int
    options: frozenset[str]


def cgroup_mounts() -> list[MountPoint]:
    """The cgroup file systems of this mount namespace, in the order of their mounting."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind in ("cgroup", "cgroup2"):
                path = before.split(" ")[4].encode("latin-1", "surrogateescape")
                text = os.fsdecode(path.decode("unicode_escape").encode("latin-1"))
                version = 2 if kind == "cgroup2" else 1
                found.append(MountPoint(text, version, frozenset(options.strip().split(","))))
    return found


def v1_controllers() -> frozenset[str]:
    """The controllers that a cgroup v1 hierarchy holds, so that v2 cannot have them."""
    options = (mount.options for mount in cgroup_mounts() if mount.version == 1)
    return frozenset(CONTROLLERS).intersection(*[frozenset().union(*options)])


def available(directory: str) -> frozenset[str]:
    """The controllers that can be enabled below a cgroup."""
    with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
        return frozenset(file.read().split())


@cache
def find_mount() -> str:
    """The mount point of cgroup v2.

    Raises:
        HostNotSupported: there is none.
    """
    mounts = [mount for mount in cgroup_mounts() if mount.version == 2]
    if not mounts:
        raise HostNotSupported("no cgroup v2 hierarchy is mounted on this host", hint=_UNIFIED)
    return mounts[0].path


def missing_reason(controllers: frozenset[str]) -> tuple[str, str]:
    """Why `controllers` are not to be had here, and what to do about it."""
    names = ", ".join(sorted(controllers))
    plural = "s" if len(controllers) > 1 else ""
    if held := controllers & v1_controllers():
        where = "a cgroup v1 hierarchy holds " + ("it" if held == controllers else ", ".join(held))
        return f"controller{plural} {names} missing from cgroup v2: {where}", _UNIFIED
    return (
        f"controller{plural} {names} missing from cgroup v2 at {find_mount()}",
        "use a kernel that has it, without cgroup_disable=, and inside a container delegate it",
    )


def require(controllers: frozenset[str], knob: str) -> None:
    """Refuse a host that lacks some of `controllers`, before anything is made there; `knob` is
    the cgroup file to name.

    Raises:
        HostNotSupported: there is no cgroup v2 at all.
        LimitNotEnforceable: controllers are missing.
    """
    if missing := controllers - available(find_mount()):
        cause, hint = missing_reason(missing)
        raise LimitNotEnforceable(knob, cause, hint=hint)


def open_hierarchy() -> Hierarchy:
    """Make the groups that jobs live in, unless they are there.

    Raises:
        HostNotSupported: no cgroup v2, or none that we may write.
    """
    mount = find_mount()
    try:
        base = keeper.base(mount) if keeper.on_systemd() else f"{mount}/jobsup"
        hierarchy = Hierarchy(mount, base)
        if not keeper.on_systemd():
            _enable(mount)
        for directory in (hierarchy.base, hierarchy.inits, hierarchy.jobs):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755)
            if directory != hierarchy.inits:
                _enable(directory)
        _set_ceiling(hierarchy.jobs)
    except OSError as error:
        raise HostNotSupported(
            f"cannot prepare {error.filename or mount}: {error.strerror}",
            hint="run as root, on the host or with a delegated cgroup; `jobsup doctor` tells more",
        ) from error
    return hierarchy


def _enable(directory: str) -> None:
    """Let the children of a cgroup have every controller that it can give them."""
    path = f"{directory}/cgroup.subtree_control"
    with open(path, encoding="ascii") as file:
        enabled = frozenset(file.read().split())
    for name in sorted(available(directory).intersection(CONTROLLERS) - enabled):
        # One at a time: a controller that is refused must not take the others with it. What a
        # job needs and did not get is found out, and named, when its limit is written.
        with suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(f"+{name}")


def _set_ceiling(jobs: str) -> None:
    """All jobs together leave the host a tenth of its memory, at least 64 MiB and at most 1 GiB,
    and an eighth of its pids. An operator's own values stay."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    reserve = min(max(memory // 10, 64 << 20), 1 << 30)
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        pids = int(file.read()) * 7 // 8
    for name, value in (("memory.max", memory - reserve), ("pids.max", pids)):
        path = f"{jobs}/{name}"
        with suppress(FileNotFoundError), open(path, "r+", encoding="ascii") as file:
            if file.read().strip() == "max":
                file.write(str(value))


def sweep(hierarchy: Hierarchy) -> list[str]:
    """Remove leaves that neither an init nor a starter holds; the names of those removed."""
    removed = []
    # Makers of leaves share this lock until their leaf is locked, so none is seen half made.
    with _locked(hierarchy.jobs, fcntl.LOCK_EX):
        for entry in os.scandir(hierarchy.jobs):
            if entry.is_dir() and _abandoned(entry.path):
                with suppress(OSError):  # a zombie's last moments: the next sweep has it
                    os.rmdir(entry.path)
                    removed.append(entry.name)
    return removed


def _abandoned(leaf: str) -> bool:
    try:
        descriptor = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


class _locked:
    """flock(2) on a directory for the length of a with block."""

    def __init__(self, directory: str, how: int) -> None:
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._how = how

    def __enter__(self) -> int:
        fcntl.flock(self._descriptor, self._how)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def make_leaf(hierarchy: Hierarchy, name: str) -> int:
    """Make one job's cgroup; a locked descriptor of its directory.

    Raises:
        OSError: as mkdir(2) gives it.
    """
    with _locked(hierarchy.jobs, fcntl.LOCK_SH) as jobs:
        os.mkdir(name, 0o755, dir_fd=jobs)
        leaf = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=jobs)
        fcntl.flock(leaf, fcntl.LOCK_EX)
        return leaf
