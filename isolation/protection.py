"""memory.low and memory.min: what a leaf protects holds only as far as every group above it
protects as much (cgroup-v2.rst: the effective protection is bounded by that of the ancestors).

So our own groups protect what all leaves together ask for, no more: with memory_recursiveprot,
what is over would be spread on every job. A group above ours is not ours to write; one that
protects less makes the limit one that cannot be enforced.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from .errors import LimitNotEnforceable
from .hierarchy import Hierarchy, locked

FILES = ("memory.low", "memory.min")


def extend(place: Hierarchy, files: Iterable[str] = FILES) -> None:
    """Let the groups above the leaves protect as much as the leaves that there are now ask for.

    Raises:
        LimitNotEnforceable: a group above ours protects less.
    """
    # One at a time, or two would each write a sum without the other's leaf.
    with locked(place.jobs, fcntl.LOCK_EX):
        for file in files:
            asked = sum(_leaves(place, file))
            for group in (place.base, place.jobs):
                if _value(group, file) != asked:
                    _write(group, file, asked)
            if asked:
                _check_above(place, file, asked)


def settle(place: Hierarchy) -> None:
    """Take back what leaves asked for that are gone."""
    with suppress(OSError, LimitNotEnforceable):  # a group above that protects less was told
        extend(place, [file for file in FILES if _value(place.jobs, file)])


def _check_above(place: Hierarchy, file: str, asked: int) -> None:
    group = os.path.dirname(place.base)
    while group != place.mount:
        if (protected := _value(group, file)) < asked:
            name = os.path.basename(group)
            setting = "MemoryLow" if file == "memory.low" else "MemoryMin"
            raise LimitNotEnforceable(
                file,
                f"the jobs ask for {asked} bytes, and the group {name} above them protects "
                f"{protected}",
                hint=f"systemctl set-property {name} {setting}={asked}",
            )
        group = os.path.dirname(group)


def _leaves(place: Hierarchy, file: str) -> Iterator[int]:
    with os.scandir(place.jobs) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                try:
                    yield _value(entry.path, file)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise  # else it has ended meanwhile


_MOST = 1 << 62  # stands for "max": more than any machine has, and sums of it stay numbers


def _value(group: str, file: str) -> int:
    with open(f"{group}/{file}", encoding="ascii") as stream:
        text = stream.read().strip()
    return _MOST if text == "max" else int(text)


def _write(group: str, file: str, value: int) -> None:
    with open(f"{group}/{file}", "w", encoding="ascii") as stream:
        stream.write("max" if value >= _MOST else str(value))
