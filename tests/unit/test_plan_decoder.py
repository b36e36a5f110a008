"""The init believes nothing of a plan before it has checked it: no plan, whole, cut short or
damaged, makes its decoder read a byte that is not there.

native/init/plan.c, built with AddressSanitizer and UBSan, gets many plans in one run; a finding
ends the run with a report and a status.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobsup.isolation import (
    Bind,
    Files,
    Identity,
    Program,
    Rlimit,
    Scratch,
    Walls,
    Watch,
    WhenFull,
    compile_plan,
)

REPO = Path(__file__).parents[2]
NATIVE = REPO / "isolation" / "native"
LEAF = b"/sys/fs/cgroup/jobsup/jobs/leaf"
MUTATIONS = 4000


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("decoder") / "decode_plan"
    flags = "-std=gnu11 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined".split()
    flags += ["-fno-sanitize-recover=all", f"-I{NATIVE}"]
    sources = [REPO / "tests/programs/decode_plan.c", NATIVE / "init/plan.c"]
    subprocess.run(["cc", *flags, *sources, "-o", program], check=True)
    return program


def decode(decoder: Path, plans: Sequence[bytes]) -> list[str]:
    """What the decoder says of each plan; a sanitizer's report fails the test, and is shown."""
    data = b"".join(struct.pack("=I", len(plan)) + plan for plan in plans)
    done = subprocess.run([decoder], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    verdicts = done.stdout.decode().splitlines()
    assert len(verdicts) == len(plans)
    return verdicts


def plain() -> Walls:
    return Walls(Program((b"true",), (b"/bin/true",)), Identity(0, 0))


def rich() -> Walls:
    """A plan with something of everything."""
    return Walls(
        program=Program(
            argv=(b"sh", b"-c", b"", b"\xff" * 200),
            candidates=(b"/usr/bin/sh", b"/bin/sh"),
            environment=tuple((b"N%d" % i, b"v" * i) for i in range(20)),
            rlimits=(Rlimit(7, 10, 20),),
        ),
        identity=Identity(1000, 1000, tuple(range(50)), frozenset({"kill"})),
        files=Files(grants=(Bind(b"/usr", b"/tmp/a"), Scratch(b"/tmp/b")), hidden=(b"/var/lib",)),
        watch=Watch(1, 2, 3, 4, WhenFull.KILL),
    )


def bare() -> Walls:
    return Walls(Program((b"x",), (b"/x",)), Identity(0, 0), network="host")


@pytest.fixture(scope="module", params=[plain, rich, bare])
def plan(request: pytest.FixtureRequest) -> bytes:
    return compile_plan(request.param(), LEAF).encode("leaf", 0xFF)


def test_a_plan_of_ours_is_read_to_its_last_step(decoder: Path) -> None:
    for make in (plain, rich, bare):
        compiled = compile_plan(make(), LEAF)
        assert decode(decoder, [compiled.encode("leaf", 0xFF)]) == [f"good {len(compiled.steps)}"]


def test_a_plan_cut_anywhere_is_refused(decoder: Path, plan: bytes) -> None:
    cut = [plan[:size] for size in range(len(plan))]
    assert set(decode(decoder, cut)) == {"bad"}


def test_a_cut_plan_that_states_its_new_size_is_refused(decoder: Path, plan: bytes) -> None:
    """The third word of the head is the size: a truncation that lies consistently."""
    cut = [plan[:8] + struct.pack("=I", size) + plan[12:size] for size in range(12, len(plan))]
    assert set(decode(decoder, cut)) == {"bad"}


def test_a_plan_with_more_behind_it_is_refused(decoder: Path, plan: bytes) -> None:
    longer = plan + bytes(8)
    stated = longer[:8] + struct.pack("=I", len(longer)) + longer[12:]
    assert decode(decoder, [longer, stated]) == ["bad", "bad"]


@pytest.mark.parametrize("seed", range(3))
def test_no_damage_makes_the_decoder_read_beyond_the_plan(
    decoder: Path, plan: bytes, seed: int
) -> None:
    """What is still taken for a plan must be walked safely too."""
    chance = random.Random(seed)
    verdicts = decode(decoder, [damaged(plan, chance) for _ in range(MUTATIONS)])
    assert "bad" in verdicts


def damaged(plan: bytes, chance: random.Random) -> bytes:
    """The plan with a few words or bytes changed, mostly to the numbers that hurt."""
    changed = bytearray(plan)
    for _ in range(chance.randint(1, 4)):
        if chance.random() < 0.5:
            at = chance.randrange(len(changed) // 4) * 4
            number = chance.choice([0, 1, 7, 8, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1, len(plan)])
            near = struct.unpack_from("=I", changed, at)[0] + chance.choice([-8, -1, 1, 8])
            struct.pack_into("=I", changed, at, chance.choice([number, near % 2**32]))
        else:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def test_noise_is_refused(decoder: Path) -> None:
    chance = random.Random(0)
    noise = [chance.randbytes(chance.randrange(4096)) for _ in range(500)]
    assert set(decode(decoder, noise)) == {"bad"}


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ((0, 1, 0), "no candidate"),
        ((1, 0, 0), "an empty argv (CVE-2021-4034)"),
        ((2, 1, 0), "more than there are"),
        ((2**64 - 1, 2, 0), "a sum that overflows"),
    ],
)
def test_an_exec_whose_counts_do_not_hold_is_refused(
    decoder: Path, numbers: tuple[int, int, int], why: str
) -> None:
    whole = compile_plan(bare(), LEAF).encode("leaf", 0xFF)
    good = struct.pack("=3Q", 1, 1, 0)
    assert whole.count(good) == 1, why
    assert decode(decoder, [whole.replace(good, struct.pack("=3Q", *numbers))]) == ["bad"]


def test_a_leaf_name_without_an_end_is_refused(decoder: Path, plan: bytes) -> None:
    at = plan.index(b"leaf\0")
    endless = plan[:at] + b"x" * 64 + plan[at + 64 :]
    assert decode(decoder, [endless]) == ["bad"]


def test_a_decoder_that_reads_too_far_is_caught(tmp_path: Path) -> None:
    """The decoder without one of its checks: what these tests can see."""
    broken = tmp_path / "plan.c"
    source = (NATIVE / "init/plan.c").read_text()
    check = "head.size > (size_t)(end - at)"
    assert check in source
    broken.write_text(source.replace(check, "0"))
    program = tmp_path / "decode_plan"
    flags = f"-std=gnu11 -g -O1 -fsanitize=address,undefined -I{NATIVE} -I{NATIVE}/init".split()
    sources = [REPO / "tests/programs/decode_plan.c", broken]
    subprocess.run(["cc", *flags, *sources, "-o", program], check=True)
    whole = compile_plan(plain(), LEAF).encode("leaf", 0xFF)
    cut = whole[:8] + struct.pack("=I", len(whole) - 8) + whole[12:-8]
    with pytest.raises(AssertionError, match="AddressSanitizer"):
        decode(program, [cut])
