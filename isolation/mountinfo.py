"""The mounts that this process sees: /proc/self/mountinfo, proc(5)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_ESCAPE = re.compile(rb"\\([0-7]{3})")


class HostMount(NamedTuple):
    """One line: `root` of the file system `device` (b"8:1") is at `target`. `options` are those of
    the file system; what is escaped in the file (blanks) is itself here."""

    device: bytes
    root: bytes
    target: bytes
    type: bytes
    source: bytes = b""
    options: tuple[bytes, ...] = ()


def host_mounts() -> tuple[HostMount, ...]:
    """All mounts, in the order of their mounting."""
    with open("/proc/self/mountinfo", "rb") as file:
        return _parse_all(file.read())


# What follows from the mounts alone is found out once while they stay the same: with hundreds of
# mounts it takes longer than a launch.
@lru_cache(maxsize=1)
def _parse_all(text: bytes) -> tuple[HostMount, ...]:
    return tuple(map(parse, text.splitlines()))


def parse(line: bytes) -> HostMount:
    """One line of the file."""
    before, _, after = line.partition(b" - ")
    # The optional fields before the dash are of any number.
    device, root, target = (_plain(word) for word in before.split(b" ")[2:5])
    kind, source, options = (*after.split(b" ", 2), b"", b"")[:3]
    words = tuple(_plain(word) for word in options.split(b","))
    return HostMount(device, root, target, kind, _plain(source), words)


def _plain(word: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), word)
