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
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from . import keeper
from .errors import HostNotSupported, LimitNotEnforceable

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


class Hierarchy(NamedTuple):
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


class MountPoint(NamedTuple):
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
    return _words(f"{directory}/cgroup.controllers")


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


# What open_hierarchy made or found, and the controllers that jobs/ then gave to its leaves.
_prepared: tuple[Hierarchy, frozenset[str]] | None = None


def locate() -> Hierarchy:
    """Where the groups that jobs live in are, or will be; nothing is made.

    Raises:
        HostNotSupported: no cgroup v2.
    """
    mount = find_mount()
    return Hierarchy(mount, keeper.place(mount) if keeper.on_systemd() else f"{mount}/jobsup")


def open_hierarchy() -> Hierarchy:
    """Make the groups that jobs live in, unless they are there.

    Once that is done, jobs/ alone is looked at: as long as it has its controllers, all above it is
    there and has them too (the kernel lets no group give up what a child still gives on).

    Raises:
        HostNotSupported: no cgroup v2, or none that we may write.
    """
    global _prepared
    if _prepared and _is_as_left(*_prepared):
        return _prepared[0]
    hierarchy = _prepare(find_mount())
    _prepared = hierarchy, _enabled(hierarchy.jobs)
    return hierarchy


def _is_as_left(hierarchy: Hierarchy, enabled: frozenset[str]) -> bool:
    try:
        return _enabled(hierarchy.jobs) == enabled and os.path.isdir(hierarchy.inits)
    except OSError:
        return False


def _prepare(mount: str) -> Hierarchy:
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
    for name in sorted(available(directory).intersection(CONTROLLERS) - _enabled(directory)):
        # One at a time: a controller that is refused must not take the others with it. What a
        # job needs and did not get is found out, and named, when its limit is written.
        with suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(f"+{name}")


def _enabled(directory: str) -> frozenset[str]:
    """The controllers that the children of a cgroup have."""
    return _words(f"{directory}/cgroup.subtree_control")


def _words(path: str) -> frozenset[str]:
    # Not open(): a file object makes nine system calls of these three, on every launch.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return frozenset(os.read(descriptor, 4096).decode().split())
    finally:
        os.close(descriptor)


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
    with locked(hierarchy.jobs, fcntl.LOCK_EX):
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


class locked:
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
    with locked(hierarchy.jobs, fcntl.LOCK_SH) as jobs:
        os.mkdir(name, 0o755, dir_fd=jobs)
        leaf = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=jobs)
        fcntl.flock(leaf, fcntl.LOCK_EX)
        return leaf
