"""The exit record: what the init knows when a job has ended, as it sends and stores it.

The init (native/init/record.c) writes a fixed head and then sections, each a name and raw bytes,
most of them counter files of the leaf copied as the kernel printed them. Only facts travel;
what they mean for the user is decided above.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from .shim import constant
from .steps import Step

_MAGIC, _VERSION = constant("RECORD_MAGIC"), constant("RECORD_VERSION")
_HEAD = struct.Struct("=6I4i2I6Q")
_SECTION = struct.Struct("=2I")


class _Head(NamedTuple):
    """struct record_head of native/abi.h."""

    magic: int
    version: int
    size: int
    sections: int
    flags: int
    ended_by: int
    wait_status: int
    failed_step: int
    failed_errno: int
    output_errno: int
    failed_op: int
    paused_ms: int
    started_ns: int
    ended_ns: int
    wall_ns: int
    stdout_bytes: int
    stderr_bytes: int
    lost_bytes: int


class EndedBy(IntEnum):
    """What made the init end the job; NOTHING when the workload ended by itself."""

    NOTHING = 0
    WALL_TIME = 1
    CPU_TIME = 2
    OUTPUT = 3
    STOP = 4
    KILL = 5
    PEER_LOST = 6


class StepFailure(NamedTuple):
    """A step that failed: its sentence ("mount tmpfs on /tmp") and its errno.

    `is_exec` says that every wall stood and the command itself could not be executed;
    `interpreter` that the file is there and the interpreter it names is not. `option` is what
    asked for the step ("cwd"), where something did.
    """

    step: str
    errno: int
    is_exec: bool = False
    interpreter: bool = False
    option: str | None = None


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
        paused_ms: of these, its clocks stood still.
        stdout_bytes, stderr_bytes: what the job wrote, delivered.
        lost_bytes: what it wrote beyond the output cap, or what no reader took.
        output_errno: why a write of its output, or to its spool, failed, 0 when none did; EPIPE is
            a reader that had gone.
        leaf_stays: the init could not empty or remove the leaf.
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
    paused_ms: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    lost_bytes: int = 0
    output_errno: int = 0
    leaf_stays: bool = False
    counters: dict[str, str] = field(default_factory=dict)
    memory_sample: str | None = None


def decode(data: bytes, steps: Sequence[Step] = ()) -> ExitRecord:
    """An exit record from its bytes; `steps` are those of the job's plan, or of one that should be
    the same. A failed step that is not the same kind of step there is told by its number.

    Raises:
        ValueError: the bytes are not a whole record of this version.
    """
    if len(data) < _HEAD.size:
        raise ValueError(f"an exit record of {len(data)} bytes is too short")
    head = _Head(*_HEAD.unpack_from(data))
    if (head.magic, head.version, head.size) != (_MAGIC, _VERSION, len(data)):
        raise ValueError("not an exit record of this version")
    counters = dict(_sections(data, head.sections))
    sample = counters.pop("memory.stat", None)
    executed = bool(head.flags & constant("RECORD_EXECUTED"))
    failure = _failure(head, steps) if head.failed_step >= 0 else None
    return ExitRecord(
        wait_status=head.wait_status if executed else None,
        ended_by=EndedBy(head.ended_by),
        failure=failure,
        started_ns=head.started_ns,
        ended_ns=head.ended_ns,
        wall_ns=head.wall_ns,
        paused_ms=head.paused_ms,
        stdout_bytes=head.stdout_bytes,
        stderr_bytes=head.stderr_bytes,
        lost_bytes=head.lost_bytes,
        output_errno=head.output_errno,
        leaf_stays=bool(head.flags & constant("RECORD_LEAF_STAYS")),
        counters=counters,
        memory_sample=sample,
    )


def _failure(head: _Head, steps: Sequence[Step]) -> StepFailure:
    step = steps[head.failed_step] if head.failed_step < len(steps) else None
    if step is not None and step.op != head.failed_op:
        step = None
    return StepFailure(
        step=step.describe() if step else f"step {head.failed_step}",
        errno=head.failed_errno,
        is_exec=head.failed_op == constant("STEP_EXEC"),
        interpreter=bool(head.flags & constant("RECORD_INTERPRETER")),
        option=step.option if step else None,
    )


def _sections(data: bytes, count: int) -> Iterator[tuple[str, str]]:
    at = _HEAD.size
    for _ in range(count):
        if len(data) - at < _SECTION.size:
            raise ValueError("an exit record ends within a section")
        name, content = _SECTION.unpack_from(data, at)
        at += _SECTION.size
        if len(data) - at < name + content:
            raise ValueError("an exit record ends within a section")
        yield data[at : at + name].decode(), data[at + name : at + name + content].decode()
        at += name + content
