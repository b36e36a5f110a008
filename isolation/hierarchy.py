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
from typing import NamedTuple

from . import keeper
from .controllers import CONTROLLERS, available, find_mount, words
from .errors import HostNotSupported


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
    return words(f"{directory}/cgroup.subtree_control")


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
    removed: list[str] = []
    # Makers of leaves share this lock until their leaf is locked, so none is seen half made. Who
    # finds it taken need not wait: another sweep or a start is going on.
    with suppress(BlockingIOError), locked(hierarchy.jobs, fcntl.LOCK_EX | fcntl.LOCK_NB):
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
        self._directory = directory
        self._how = how
        self._descriptor = -1

    def __enter__(self) -> int:
        self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, self._how)
        except BaseException:
            os.close(self._descriptor)
            raise
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
        try:
            leaf = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=jobs)
            fcntl.flock(leaf, fcntl.LOCK_EX)
        except BaseException:
            os.rmdir(name, dir_fd=jobs)
            raise
        return leaf
