"""The machine as a test sees it from outside: cgroups of jobs, inits, processes, and their end.

Nothing here asks a daemon or a `jobsup run`: it is the kernel that is read, so that a test can tell
what they say from what is so.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from jobsup.isolation import open_hierarchy

REPO = Path(__file__).parents[1]
JOBSUP = [sys.executable, "-I", "-m", "jobsup"]
PATIENCE = 120.0  # seconds until a test that hangs has failed; no promise is measured with it

KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the flags in /proc/PID/stat


@dataclass(frozen=True, slots=True)
class Leaf:
    """A job's cgroup."""

    path: Path

    @classmethod
    def of(cls, job_id: str) -> Self:
        return cls(Path(open_hierarchy().leaf(job_id)))

    @classmethod
    def only(cls) -> Self:
        """The leaf of the only job there is."""
        (name,) = leaves()
        return cls.of(name)

    def read(self, file: str) -> str:
        return (self.path / file).read_text().strip()

    def value(self, file: str, key: str) -> int:
        """The number of a key in a file of "key value" lines."""
        (line,) = (line for line in self.read(file).splitlines() if line.split()[0] == key)
        return int(line.split()[1])

    def processes(self) -> list[int]:
        return [int(pid) for pid in self.read("cgroup.procs").split()]


# ---- what there is


def leaves() -> set[str]:
    """The names of all jobs' cgroups."""
    return {entry.name for entry in os.scandir(open_hierarchy().jobs) if entry.is_dir()}


def inits() -> set[int]:
    """The pids of all inits."""
    return set(map(int, Path(open_hierarchy().inits, "cgroup.procs").read_text().split()))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes(*, zombies: bool = False) -> dict[int, str]:
    """The command of every process but the kernel's own; a zombie has a name alone."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):  # it is gone
                before, _, after = (path / "stat").read_text().rpartition(")")
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                state, *fields = after.split()
                if not int(fields[5]) & KERNEL_THREAD and (zombies or state not in "ZX"):
                    name = before.partition("(")[2]
                    found[int(path.name)] = command.decode(errors="replace") or name
    return found


# ---- its end


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def wait_ended(pidfd: int) -> None:
    """Until the process behind a pidfd has ended."""
    assert select.select([pidfd], [], [], PATIENCE)[0], "a process goes on"


def wait_no_inits() -> None:
    """Until the last init has gone: what an init does without a supervisor, it does before."""
    _wait_empty(open_hierarchy().inits)


def end_all_jobs() -> None:
    """Whatever jobs there are end, and nothing of them stays: nobody is asked, as after a test that
    failed."""
    # An init takes all of its job along. Not the leaves alone: a job that was only just
    # acknowledged has nothing in its own yet.
    Path(open_hierarchy().inits, "cgroup.kill").write_text("1")
    wait_no_inits()
    for leaf in map(Leaf.of, leaves()):
        try:
            (leaf.path / "cgroup.kill").write_text("1")
            _wait_empty(str(leaf.path))
            leaf.path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # a daemon cleans up, too
                raise


def _wait_empty(group: str) -> None:
    """Until the last process of a cgroup has gone."""
    deadline = time.monotonic() + PATIENCE
    with open(Path(group, "cgroup.events"), "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 256, 0):
            poll.poll(max(0, deadline - time.monotonic()) * 1000)
            assert time.monotonic() < deadline, f"left in {group}: {_members(group)}"


def _members(group: str) -> dict[int, str]:
    pids = set(map(int, Path(group, "cgroup.procs").read_text().split()))
    return {pid: command for pid, command in processes(zombies=True).items() if pid in pids}
