"""The exit record: what the init knows when a job has ended, as it sends and stores it.

The init (native/init/record.c) writes a fixed head and then sections, each a name and raw bytes,
most of them counter files of the leaf copied as the kernel printed them. Only facts travel;
what they mean for the user is decided above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class EndedBy(IntEnum):
    """What made the init end the job; NOTHING when the workload ended by itself."""

    NOTHING = 0
    WALL_TIME = 1
    CPU_TIME = 2
    OUTPUT = 3
    STOP = 4
    KILL = 5
    PEER_LOST = 6


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed: its sentence ("mount tmpfs on /tmp") and its errno.

    `is_exec` says that every wall stood and the command itself could not be executed;
    `interpreter` that the file is there and the interpreter it names is not.
    """

    step: str
    errno: int
    is_exec: bool = False
    interpreter: bool = False


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """The end of one job as the init saw it.

    Attributes:
        wait_status: as waitpid(2) gives it; None when the command was never executed.
        ended_by: what the init did to end it.
        failure: the step that failed, when one did.
        started_ns: CLOCK_REALTIME at exec, 0 when there was none.
        ended_ns: CLOCK_REALTIME when the leaf was empty.
        wall_ns: CLOCK_MONOTONIC between the two.
        stdout_bytes, stderr_bytes: what the job wrote, delivered.
        lost_bytes: what it wrote beyond the output cap, or what no reader took.
        counters: the leaf's files after its last process, as the kernel printed them
            ("memory.events", "memory.peak", "cpu.stat", "io.stat", "pids.events" …); a file
            that this kernel does not have is absent.
        memory_sample: memory.stat as it was at the last memory event, None without one.
    """

    wait_status: int | None
    ended_by: EndedBy
    failure: StepFailure | None = None
    started_ns: int = 0
    ended_ns: int = 0
    wall_ns: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    lost_bytes: int = 0
    counters: dict[str, str] = field(default_factory=dict)
    memory_sample: str | None = None
