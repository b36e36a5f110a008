"""Where else the host has mounted what no job may see.

A job gets the host's mounts with their files, and the same files may be at several places: a bind
mount shows jobsup's own directories again, and a chroot of the host's often has a procfs of the
host's, which shows the host's processes and through them its files, or a sysfs or cgroupfs, which
rule the host where they are writable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

from .mountinfo import HostMount

# File systems that are windows into the kernel; what rules a host lies in one of them.
_KERNEL_TYPES = frozenset(
    b"proc sysfs cgroup cgroup2 debugfs tracefs securityfs configfs efivarfs bpf pstore mqueue "
    b"devpts devtmpfs binfmt_misc fusectl selinuxfs nfsd rpc_pipefs resctrl".split()
)


def below(path: bytes, directory: bytes) -> bool:
    """Whether `path` is `directory` or in it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def moved(path: bytes, source: bytes, target: bytes) -> bytes:
    """`path`, which is below `source`, when `source` is at `target`."""
    return os.path.normpath(os.path.join(target, os.path.relpath(path, source)))


@lru_cache(maxsize=1)
def kernel_directories(mounts: tuple[HostMount, ...]) -> tuple[bytes, ...]:
    """The outermost directories with a kernel file system on them."""
    found: list[bytes] = []
    for target in sorted(mount.target for mount in mounts if mount.type in _KERNEL_TYPES):
        if not found or not below(target, found[-1]):
            found.append(target)
    return tuple(found)


@lru_cache(maxsize=8)
def all_places(path: bytes, mounts: tuple[HostMount, ...]) -> frozenset[bytes]:
    """Every place at which the directory `path` (no links in it), what is in it, or what is mounted
    in it can be found; itself included."""
    starts = (path, *(mount.target for mount in mounts if below(mount.target, path)))
    return frozenset((path,)).union(*(_other_places(start, mounts) for start in starts))


def _holder(path: bytes, mounts: tuple[HostMount, ...]) -> HostMount | None:
    """The mount that a path is on: the deepest, and of several at one place the last. None in a
    chroot whose own mount is out of sight."""
    candidates = (mount for mount in reversed(mounts) if below(path, mount.target))
    return max(candidates, key=lambda mount: len(mount.target), default=None)


def _other_places(path: bytes, mounts: tuple[HostMount, ...]) -> Iterator[bytes]:
    own = _holder(path, mounts)
    if own is None:
        return
    inside = moved(path, own.target, own.root)
    for mount in mounts:
        if mount.device != own.device:
            continue
        place = mount.target
        if below(inside, mount.root):
            place = moved(inside, mount.root, mount.target)
        elif not below(mount.root, inside):
            continue
        if _holder(place, mounts) == mount:  # not covered by another mount
            yield place
