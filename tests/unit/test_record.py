"""Exit records come from another process: whole and of our version, or refused."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.isolation import EndedBy, ExitRecord, StepFailure
from jobsup.isolation.record import decode
from jobsup.isolation.shim import constant
from jobsup.isolation.steps import Cwd, Exec, Pivot, Step

HEAD = struct.Struct("=6I4i2I6Q")
EXECUTED = constant("RECORD_EXECUTED")
PLAN = (Pivot(), Cwd(b"/srv"), Exec((b"/x",), (b"x",), ()))


def record(
    *sections: tuple[bytes, bytes],
    flags: int = EXECUTED,
    failed: tuple[int, int] = (-1, 0),
    op: int = 0,
) -> bytes:
    body = b"".join(struct.pack("=2I", len(n), len(c)) + n + c for n, c in sections)
    magic, version = constant("RECORD_MAGIC"), constant("RECORD_VERSION")
    size = HEAD.size + len(body)
    head = (magic, version, size, len(sections), flags, EndedBy.STOP, 15, *failed, 32, op, 0)
    return HEAD.pack(*head, 1, 2, 3, 4, 5, 6) + body


def test_all_that_the_init_knows_is_there() -> None:
    data = record((b"memory.events", b"oom 1\n"), (b"memory.stat", b"anon 5\n"))
    assert decode(data) == ExitRecord(
        wait_status=15,
        ended_by=EndedBy.STOP,
        started_ns=1,
        ended_ns=2,
        wall_ns=3,
        stdout_bytes=4,
        stderr_bytes=5,
        lost_bytes=6,
        output_errno=32,
        counters={"memory.events": "oom 1\n"},
        memory_sample="anon 5\n",
    )


def test_a_job_that_was_not_executed_has_no_wait_status() -> None:
    assert decode(record(flags=0)).wait_status is None


def test_a_failed_step_is_told_in_its_own_words() -> None:
    found = decode(record(flags=0, failed=(1, 28), op=Cwd.op), PLAN)
    assert found.failure == StepFailure("change to /srv", 28, option="cwd")


def test_a_failed_exec_is_told_apart() -> None:
    flags = constant("RECORD_INTERPRETER")
    found = decode(record(flags=flags, failed=(2, 2), op=Exec.op), PLAN)
    assert found.failure == StepFailure("execute x", 2, is_exec=True, interpreter=True)


@pytest.mark.parametrize("steps", [(), PLAN[:1], PLAN])
def test_a_step_that_another_plan_does_not_have_there_is_told_by_its_number(
    steps: tuple[Step, ...],
) -> None:
    found = decode(record(flags=0, failed=(1, 28), op=Pivot.op), steps)
    assert found.failure == StepFailure("step 1", 28)


@pytest.mark.parametrize("length", [0, 1, HEAD.size - 1, HEAD.size, HEAD.size + 3])
def test_a_torn_record_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="record"):
        decode(record((b"cpu.stat", b"usage_usec 1\n"))[:length])


def test_another_version_is_refused() -> None:
    data = bytearray(record())
    data[4] = 99
    with pytest.raises(ValueError, match="version"):
        decode(bytes(data))


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damage_never_gives_more_than_a_refusal(at: int, damage: bytes) -> None:
    data = bytearray(record((b"cpu.stat", b"usage_usec 1\n"), (b"io.stat", b"")))
    data[at : at + len(damage)] = damage
    with contextlib.suppress(ValueError):  # of a text or an enum, too
        decode(bytes(data), PLAN)
