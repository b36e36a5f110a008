"""From a path or a device to the block device on which io.max works.

The kernel throttles whole disks: a limit on a partition is refused (ENODEV), and one on a file
system without a device would do nothing. So a path is followed to the disk below it, through
partitions and through device-mapper or md devices with a single disk under them; a striped or
mirrored one is limited itself. sysfs: Documentation/ABI/stable/sysfs-block.
"""

from __future__ import annotations

import os
import stat

from .errors import PathRefused
from .mountinfo import HostMount, host_mounts
from .rights import looking_as
from .walls import Identity, IoLimit, Knob

_FIELD = "io_max"
_ELSEWHERE = HostMount(b"", b"", b"", b"a file system of another namespace")
_HINT = "name a disk (/dev/…) or a path on one"


def io_knobs(limits: tuple[IoLimit, ...], owner: Identity | None = None) -> list[Knob]:
    """One io.max line for each limit, its device found; the paths of an `owner` who is not root
    with their rights.

    Raises:
        PathRefused: a target that has no device to limit.
    """
    return [Knob("io.max", _line(limit, owner), _FIELD) for limit in limits]


def _line(limit: IoLimit, owner: Identity | None) -> str:
    values = (
        ("rbps", limit.rbps),
        ("wbps", limit.wbps),
        ("riops", limit.riops),
        ("wiops", limit.wiops),
    )
    words = [f"{key}={value}" for key, value in values if value is not None]
    return " ".join([whole_disk(limit.target, owner), *words])


def whole_disk(target: bytes, owner: Identity | None = None) -> str:
    """MAJOR:MINOR of the disk that `target` (such numbers, a device, or any path) is on.

    Raises:
        PathRefused: it is missing, or on nothing that can be limited.
    """
    if not target.startswith(b"/"):
        return _disk_of(target, target.decode())
    try:
        with looking_as(owner):
            status = os.stat(target)
    except OSError as error:
        raise PathRefused(_FIELD, target, os.strerror(error.errno or 0), hint=_HINT) from error
    if stat.S_ISBLK(status.st_mode):
        return _disk_of(target, _number(status.st_rdev))
    if os.major(status.st_dev) != 0:
        return _disk_of(target, _number(status.st_dev))
    return _disk_behind(target, status)


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


def _disk_behind(target: bytes, status: os.stat_result) -> str:
    """File systems with an anonymous device number: btrfs has its disk as the mount's source,
    an overlay writes to its upper directory; the others have none."""
    number = _number(status.st_dev).encode()
    mount = next((mount for mount in host_mounts() if mount.device == number), _ELSEWHERE)
    if mount.type == b"overlay" and (upper := _upper_directory(mount)):
        if os.path.isdir(upper) and not os.path.samestat(os.stat(upper), status):
            return whole_disk(upper)
    elif mount.source.startswith(b"/dev/") and os.path.exists(mount.source):
        return whole_disk(mount.source)
    kind = os.fsdecode(mount.type)
    raise PathRefused(_FIELD, target, f"is on {kind}, which has no disk to limit", hint=_HINT)


def _upper_directory(mount: HostMount) -> bytes | None:
    pairs = dict(option.partition(b"=")[::2] for option in mount.options)
    return pairs.get(b"upperdir")
