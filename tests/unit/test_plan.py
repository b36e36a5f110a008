"""A plan is pure data: ordered, described, and encoded as the init reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from jobsup.isolation import Files, Identity, Program, Rlimit, Walls, Watch, WhenFull, compile_plan
from jobsup.isolation import steps as s
from jobsup.isolation.plan import Plan
from jobsup.isolation.shim import constant

LEAF = b"/sys/fs/cgroup/jobsup/jobs/j1"
HEAD = struct.Struct("=8I5Q64s")
STEP = struct.Struct("=4I")


def walls(**changes: object) -> Walls:
    parts: dict[str, object] = {
        "program": Program((b"true",), (b"/bin/true", b"/usr/bin/true"), ((b"A", b"1"),)),
        "identity": Identity(0, 0, (), frozenset({"kill"})),
        "files": Files(cwd=b"/"),
        **changes,
    }
    return Walls(**parts)  # type: ignore[arg-type]


def order(plan: Plan) -> list[type[s.Step]]:
    return [type(step) for step in plan.steps]


def position(plan: Plan, kind: type[s.Step]) -> int:
    return order(plan).index(kind)


def test_the_walls_stand_before_the_workload_exists() -> None:
    plan = compile_plan(walls(), LEAF)
    assert position(plan, s.Pivot) < position(plan, s.Hostname) < position(plan, s.Workload)
    after = plan.steps[position(plan, s.Workload) + 1 :]
    assert not any(isinstance(step, s.Mount | s.BindMount | s.Root | s.Mask) for step in after)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (s.OomScore, s.Bounding),  # while CAP_SYS_RESOURCE is held
        (s.Streams, s.Cwd),  # so that no link leads to a descriptor of ours
        (s.Bounding, s.User),  # needs CAP_SETPCAP
        (s.Groups, s.User),  # needs CAP_SETGID
        (s.User, s.Capabilities),  # a change of user changes the sets
        (s.Capabilities, s.NoNewPrivs),
        (s.NoNewPrivs, s.Exec),
    ],
)
def test_the_order_that_security_rests_on(first: type[s.Step], then: type[s.Step]) -> None:
    plan = compile_plan(walls(), LEAF)
    assert position(plan, first) < position(plan, then)


def test_exec_is_the_last_step() -> None:
    assert order(compile_plan(walls(), LEAF))[-1] is s.Exec


def test_a_job_on_the_hosts_network_has_no_loopback_of_its_own() -> None:
    assert s.Loopback in order(compile_plan(walls(), LEAF))
    assert s.Loopback not in order(compile_plan(walls(network="host"), LEAF))


def test_another_user_keeps_no_capability() -> None:
    plan = compile_plan(walls(identity=Identity(1000, 1000, (4,), frozenset())), LEAF)
    assert s.Capabilities(frozenset()) in plan.steps
    assert s.Groups((4,)) in plan.steps


def test_every_step_has_a_sentence_of_its_own() -> None:
    sentences = compile_plan(walls(), LEAF).describe()
    assert len(set(sentences)) == len(sentences)
    assert all(sentence and "\n" not in sentence for sentence in sentences)


def decode(data: bytes) -> Iterator[tuple[int, tuple[int, ...], list[bytes]]]:
    """The steps of an encoded plan, read as the init reads them."""
    at = HEAD.size
    while at < len(data):
        op, size, numbers, strings = STEP.unpack_from(data, at)
        assert size % 8 == 0
        values = struct.unpack_from(f"={numbers}Q", data, at + STEP.size)
        cursor = at + STEP.size + 8 * numbers
        texts = []
        for _ in range(strings):
            (length,) = struct.unpack_from("=I", data, cursor)
            texts.append(data[cursor + 4 : cursor + 4 + length])
            assert data[cursor + 4 + length] == 0
            cursor += 5 + length
        assert 0 <= at + size - cursor < 8
        yield op, values, texts
        at += size


def test_what_is_encoded_is_what_was_planned() -> None:
    plan = compile_plan(walls(), LEAF)
    decoded = list(decode(plan.encode("j1", 1)))
    assert [op for op, _, _ in decoded] == [step.op for step in plan.steps]
    assert [tuple(texts) for _, _, texts in decoded] == [tuple(x.strings()) for x in plan.steps]


def test_the_head_carries_what_the_init_watches() -> None:
    watch = Watch(1500, 2_000_000, 250, 4096, WhenFull.KILL)
    data = compile_plan(walls(watch=watch, merge=True), LEAF, peer_loss_ends=False).encode("j1", 5)
    head = HEAD.unpack_from(data)
    assert head[0] == constant("PLAN_MAGIC")
    assert head[2] == len(data)
    assert head[4:8] == (5, constant("PEER_LOSS_CONTINUES"), WhenFull.KILL, 1)
    assert head[8:12] == (1500, 2_000_000, 250, 4096)
    assert head[13].rstrip(b"\0") == b"j1"


def test_no_output_cap_is_not_a_cap_of_zero() -> None:
    head = HEAD.unpack_from(compile_plan(walls(), LEAF).encode("j1", 1))
    assert head[11] == 2**64 - 1


def test_unlimited_and_negative_numbers_survive_the_wire() -> None:
    program = Program((b"x",), (b"/x",), (), (Rlimit(7, -1, -1),), oom_score_adj=-5)
    encoded = list(decode(compile_plan(walls(program=program), LEAF).encode("j1", 1)))
    numbers = {op: values for op, values, _ in encoded}
    assert numbers[s.OomScore.op] == (2**64 - 5,)
    assert (s.SetRlimit.op, (7, 2**64 - 1, 2**64 - 1), []) in encoded


def test_arguments_that_are_no_text_travel() -> None:
    program = Program((b"\xff\xfe", b"", b"a b"), (b"/\xff",), ((b"K", b"\x80"),))
    *_, (op, numbers, texts) = decode(compile_plan(walls(program=program), LEAF).encode("j1", 1))
    assert op == s.Exec.op
    assert numbers == (1, 3, 1)
    assert texts == [b"/\xff", b"\xff\xfe", b"", b"a b", b"K=\x80"]
