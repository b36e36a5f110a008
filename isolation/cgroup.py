"""One leaf: a job's cgroup v2 directory, its limits, its end.

No limit is silently missing: every knob is written, read back and compared as the kernel documents
its rounding (Documentation/admin-guide/cgroup-v2.rst), and the effective value is what is shown.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterable

from . import hierarchy as tree
from .controllers import CONTROLLERS, missing_reason
from .errors import LaunchFailed, LimitNotEnforceable, errno_name
from .hierarchy import Hierarchy
from .walls import Knob

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of a removed leaf, a file is not there, and one that was open has no device.
GONE = (errno.ENOENT, errno.ENODEV)
_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC


class Leaf:
    """A leaf that we made and own until `remove`. `descriptor` is its directory."""

    def __init__(self, descriptor: int, name: str, parent: Hierarchy) -> None:
        self.descriptor = descriptor
        self.name = name
        self._parent = parent

    @classmethod
    def make(cls, parent: Hierarchy, name: str) -> Leaf:
        """Make the directory; `name` is ours, never a user's.

        Raises:
            LaunchFailed: the kernel does not make another group.
        """
        try:
            return cls(tree.make_leaf(parent, name), name, parent)
        except OSError as error:
            raise LaunchFailed(f"making the cgroup {parent.leaf(name)}", error.errno) from error

    @classmethod
    def find(cls, parent: Hierarchy, name: str) -> Leaf | None:
        """One that another process made, which holds its lock; None when it is gone."""
        try:
            descriptor = os.open(parent.leaf(name), _READ | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        return cls(descriptor, name, parent)

    def apply(self, knobs: Iterable[Knob]) -> dict[str, str]:
        """Write each knob, read it back, compare; the values in force.

        Raises:
            LimitNotEnforceable: a knob is missing, is refused, or holds another value.
        """
        asked = list(knobs)
        for knob in asked:
            self._write(knob)
        # Only when all are written: what undoes another (two limits of one disk, cpu.weight and
        # cpu.weight.nice) is found as well.
        return {knob.file: self._held(knob) for knob in asked}

    def _held(self, knob: Knob) -> str:
        value = self._read_back(knob)
        if not holds(knob, value):
            raise LimitNotEnforceable(
                knob.file,
                f"{knob.value!r} was written and the kernel says {value!r}",
                hint=f"choose a value of --{knob.flag.replace('_', '-')} that it takes",
            )
        if knob.file in _CPUSETS and _numbers(value):
            self._require_effective(knob)
        return value

    def _require_effective(self, knob: Knob) -> None:
        """A cpuset may name processors that are off or that a group above leaves out: the kernel
        keeps it for the day when they come, and until then runs the job on others."""
        effective = self._read_back(knob._replace(file=f"{knob.file}.effective"))
        if _numbers(effective) != _numbers(knob.value):
            raise LimitNotEnforceable(
                knob.file,
                f"{knob.value!r} was written, and the job would run on {effective!r}",
                hint=f"--{knob.flag.replace('_', '-')} takes what is switched on, and what the "
                "groups above the job's have",
            )

    def _write(self, knob: Knob) -> None:
        try:
            descriptor = os.open(knob.file, _WRITE, dir_fd=self.descriptor)
        except OSError as error:
            raise self._no_file(knob, error) from error
        try:
            os.write(descriptor, knob.value.encode())
        except OSError as error:
            raise LimitNotEnforceable(
                knob.file,
                f"the kernel refuses {knob.value!r} ({errno_name(error.errno or 0)})",
                hint=f"choose another value of --{knob.flag.replace('_', '-')}",
            ) from error
        finally:
            os.close(descriptor)

    def _read_back(self, knob: Knob) -> str:
        try:
            return self.read(knob.file)
        except OSError as error:
            raise LimitNotEnforceable(
                knob.file, f"it cannot be read back ({errno_name(error.errno or 0)})"
            ) from error

    def _no_file(self, knob: Knob, error: OSError) -> LimitNotEnforceable:
        controller = knob.file.partition(".")[0]
        if controller in CONTROLLERS and controller not in self.read("cgroup.controllers").split():
            cause, hint = missing_reason(frozenset({controller}))
            return LimitNotEnforceable(knob.file, cause, hint=hint)
        return LimitNotEnforceable(
            knob.file,
            f"this kernel does not have it ({errno_name(error.errno or 0)})",
            hint=f"leave out --{knob.flag.replace('_', '-')}, or use a newer kernel",
        )

    def read(self, file: str) -> str:
        """A file of the leaf, without its last newline.

        Raises:
            OSError: as open(2) and read(2) give it.
        """
        descriptor = os.open(file, _READ, dir_fd=self.descriptor)
        try:
            return os.read(descriptor, 65536).decode().rstrip("\n")
        finally:
            os.close(descriptor)

    def write(self, file: str, value: str) -> None:
        """Write a control file (cgroup.kill, cgroup.freeze).

        Raises:
            OSError: as open(2) and write(2) give it.
        """
        descriptor = os.open(file, _WRITE, dir_fd=self.descriptor)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        """SIGKILL to every process in it, frozen or not."""
        try:
            self.write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in GONE:
                raise

    def wait_empty(self, seconds: float) -> bool:
        """Wait for its last process; False when some are left after `seconds`."""
        deadline = time.monotonic() + seconds
        descriptor = os.open("cgroup.events", _READ, dir_fd=self.descriptor)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLPRI)  # kernfs: it changed since the last read
            while b"populated 1" in os.pread(descriptor, 256, 0):
                left = deadline - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    return b"populated 0" in os.pread(descriptor, 256, 0)
            return True
        finally:
            os.close(descriptor)

    def clear(self, seconds: float = 60) -> bool:
        """Kill, wait, remove: what is left when an init did not do it. False: it stays."""
        try:
            self.kill()
            return self.wait_empty(seconds) and self._remove()
        except OSError as error:
            if error.errno in GONE:
                return True  # the init has removed it
            raise

    def _remove(self) -> bool:
        for _ in range(50):
            try:
                os.rmdir(self._parent.leaf(self.name))
            except FileNotFoundError:
                return True
            except OSError:
                # A last task is still on its way out of the kernel's lists; nothing tells when
                # it has gone.
                time.sleep(0.002)
            else:
                return True
        return False

    def duplicate(self) -> Leaf:
        """The same by another descriptor, to be closed as well."""
        return Leaf(os.dup(self.descriptor), self.name, self._parent)

    def close(self) -> None:
        """Give up the descriptor, and with it our lock."""
        os.close(self.descriptor)
        self.descriptor = -1


def holds(knob: Knob, read: str) -> bool:
    """Whether what the kernel says is what was asked, after its documented rounding.

    Memory is kept in whole pages, rounded down, and may be asked for as 64M; cpu.max keeps its
    period where none is given; files with a line for each device, or a "default" line, print them
    all, and io.max every key; cpuset lists may be written in other ways.
    """
    asked = knob.value.split()
    if knob.file == "io.max":
        return _io_line_holds(asked, read)
    if knob.file.startswith("cpuset.cpus") or knob.file == "cpuset.mems":
        return _numbers(knob.value) == _numbers(read)
    if knob.file.startswith("memory.") and knob.file not in _SWITCHES:
        return _pages(knob.value) == _pages(read)
    if knob.file == "cpu.max":
        return read.split()[: len(asked)] == asked
    lines = [line.split() for line in read.splitlines()]
    return asked in lines or ["default", *asked] in lines


_CPUSETS = ("cpuset.cpus", "cpuset.mems")
_SWITCHES = ("memory.oom.group", "memory.zswap.writeback")
_SUFFIXES = {suffix: 1 << 10 * power for power, suffix in enumerate("KMGTPE", 1)}


def _pages(amount: str) -> int | str:
    """An amount of memory in pages, as the kernel's memparse takes it; other words as they are."""
    digits, suffix = amount, 1
    if amount[-1:].upper() in _SUFFIXES:
        digits, suffix = amount[:-1], _SUFFIXES[amount[-1].upper()]
    return int(digits) * suffix // _PAGE if digits.isdecimal() else amount


def _io_line_holds(asked: list[str], read: str) -> bool:
    lines = (line.split() for line in read.splitlines())
    found = next((set(words[1:]) for words in lines if words[:1] == asked[:1]), set[str]())
    unlimited = all(item.endswith("=max") for item in asked[1:])
    return set(asked[1:]) <= found or (unlimited and not found)


def _numbers(text: str) -> set[int]:
    numbers: set[int] = set()
    for part in text.replace("\n", ",").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers
