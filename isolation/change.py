"""Other limits for a leaf that is in use: all of them, or none.

What was in force is read before anything is written. When the kernel refuses a new value, or holds
another one, the old ones are written back, so that the job is never left with half of a change.

A memory.max below what the job uses is refused, too: for what it cannot reclaim the kernel would
kill the job (cgroup-v2.rst), which is not what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import protection
from .cgroup import Leaf
from .errors import LimitNotEnforceable, errno_name
from .hierarchy import Hierarchy
from .walls import Knob

# Files with a line for each device: what stands for "no line" there.
_NO_LINE = {"io.max": "rbps=max wbps=max riops=max wiops=max", "io.weight": "default"}


def change(leaf: Leaf, place: Hierarchy, knobs: Sequence[Knob]) -> dict[str, str]:
    """Write all knobs, read them back; the values in force.

    Raises:
        LimitNotEnforceable: one is refused or does not hold; nothing has changed.
        OSError: ENOENT or ENODEV, the leaf is gone.
    """
    leaf.read("cgroup.events")  # there is a leaf: what is missing now is a file that was asked for
    before = _before(leaf, knobs)
    protected = [knob.file for knob in knobs if knob.file in protection.FILES]
    try:
        with _room_made(leaf, knobs):
            in_force = leaf.apply(knobs)
        protection.extend(place, protected)
    except LimitNotEnforceable as error:
        for failed in _restore(leaf, before):
            error.add_note(failed)
        if protected:
            protection.settle(place)
        raise
    return in_force


@contextmanager
def _room_made(leaf: Leaf, knobs: Sequence[Knob]) -> Iterator[None]:
    """With what a lower memory.max would have reclaimed already reclaimed. memory.high has the
    kernel do that before the write returns, and holds up who asks for more; it kills nothing.

    Raises:
        LimitNotEnforceable: the job uses more.
    """
    asked = {knob.file: knob for knob in knobs}.get("memory.max")
    if asked is None or not _is_below(asked.value, int(leaf.read("memory.current"))):
        yield
        return
    high = leaf.read("memory.high")
    leaf.write("memory.high", asked.value)
    try:
        used = int(leaf.read("memory.current"))
        if _is_below(leaf.read("memory.high"), used):
            least = (used + 1023) >> 10
            raise LimitNotEnforceable(
                "memory.max",
                f"the job uses {least}K that cannot be reclaimed, and would be killed",
                hint=f"--mem takes {least}K and more; to end the job, stop it",
            )
        yield
    finally:
        if not any(knob.file == "memory.high" for knob in knobs):
            leaf.write("memory.high", high)


def _is_below(limit: str, used: int) -> bool:
    return limit.isdecimal() and int(limit) < used


def _before(leaf: Leaf, knobs: Sequence[Knob]) -> list[tuple[str, str]]:
    """What to write to have things as they are now, file and value."""
    found: list[tuple[str, str]] = []
    for knob in knobs:
        try:
            lines = leaf.read(knob.file).splitlines()
        except OSError:
            continue  # missing, or not to be read: writing it tells more
        device = knob.value.split(" ", 1)[0]
        if knob.file in _NO_LINE and ":" in device:
            lines = [line for line in lines if line.split(" ", 1)[0] == device]
            lines = lines or [f"{device} {_NO_LINE[knob.file]}"]
        # An empty one (cpuset.cpus) takes a line without a word; nothing would not be written.
        found += [(knob.file, line) for line in lines or ["\n"]]
    return found


def _restore(leaf: Leaf, before: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Write it back, the last first; a sentence for each that could not be."""
    for file, value in reversed(before):
        try:
            leaf.write(file, value)
        except OSError as error:
            yield f"{file} could not be set back to {value}: {errno_name(error.errno or 0)}"
