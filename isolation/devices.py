"""From a path or a device to the block device on which io.max works.

The kernel throttles whole disks: a limit on a partition is refused (ENODEV), and one on a file
system without a device would do nothing. So a path is followed to the disk below it, through
partitions and through device-mapper or md devices with a single disk under them; a striped or
mirrored one is limited itself. sysfs: Documentation/ABI/stable/sysfs-block.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from .errors import PathRefused
from .walls import IoLimit, Knob

_FIELD = "io_max"
_HINT = "name a disk (/dev/…) or a path on one"


def io_knobs(limits: tuple[IoLimit, ...]) -> list[Knob]:
    """One io.max line for each limit, its device found.

    Raises:
        PathRefused: a target that has no device to limit.
    """
    return [Knob("io.max", _line(limit), _FIELD) for limit in limits]


def _line(limit: IoLimit) -> str:
    values = (
        ("rbps", limit.rbps),
        ("wbps", limit.wbps),
        ("riops", limit.riops),
        ("wiops", limit.wiops),
    )
    words = [f"{key}={value}" for key, value in values if value is not None]
    return " ".join([whole_disk(limit.target), *words])


def whole_disk(target: bytes) -> str:
    """MAJOR:MINOR of the disk that `target` (such numbers, a device, or any path) is on.

    Raises:
        PathRefused: it is missing, or on nothing that can be limited.
    """
    if not target.startswith(b"/"):
        return _disk_of(target, target.decode())
    try:
        status = os.stat(target)
    except OSError as error:
        raise PathRefused(_FIELD, target, os.strerror(error.errno or 0), hint=_HINT) from error
    if stat.S_ISBLK(status.st_mode):
        return _disk_of(target, _number(status.st_rdev))
    if os.major(status.st_dev) != 0:
        return _disk_of(target, _number(status.st_dev))
    return _disk_behind(target)


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _disk_of(target: bytes, number: str) -> str:
    link = f"/sys/dev/block/{number}"
    if not os.path.exists(link):
        raise PathRefused(_FIELD, target, "its device is not in sysfs", hint=_HINT)
    directory = os.path.realpath(link)
    while True:
        if os.path.exists(f"{directory}/partition"):
            directory = os.path.dirname(directory)
            continue
        slaves = os.listdir(f"{directory}/slaves") if os.path.isdir(f"{directory}/slaves") else []
        if len(slaves) != 1:
            break
        directory = os.path.realpath(f"{directory}/slaves/{slaves[0]}")
    with open(f"{directory}/dev", encoding="ascii") as file:
        return file.read().strip()


def _disk_behind(target: bytes) -> str:
    """File systems with an anonymous device number: btrfs has its disk as the mount's source,
    an overlay writes to its upper directory; the others have none."""
    mount = _mount_of(target)
    source = os.fsencode(mount.source)
    if mount.kind == "overlay" and (upper := mount.options.get("upperdir")):
        upper_path = os.fsencode(upper)
        if os.path.isdir(upper_path) and not os.path.samestat(os.stat(upper_path), os.stat(target)):
            return whole_disk(upper_path)
    if source.startswith(b"/dev/") and os.path.exists(source):
        return whole_disk(source)
    raise PathRefused(_FIELD, target, f"is on {mount.kind}, which has no disk to limit", hint=_HINT)


class _Mount(NamedTuple):
    kind: str
    source: str
    options: dict[str, str]


def _mount_of(target: bytes) -> _Mount:
    number = _number(os.stat(target).st_dev)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.rstrip("\n").partition(" - ")
            if before.split(" ")[2] == number:
                kind, source, options = after.split(" ", 2)
                pairs = (option.partition("=") for option in options.split(","))
                return _Mount(kind, source, {key: value for key, _, value in pairs})
    return _Mount("a file system of another namespace", "", {})
