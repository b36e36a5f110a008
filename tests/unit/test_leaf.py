"""No limit is silently missing: what is written to a leaf's file is read back and compared.

The kernel's files are stood in for by a directory's: a link to /dev/null takes every write and
says nothing, a regular file keeps what was there beyond the write. What the real kernel does with
each knob is in tests/kernel/test_limits.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.isolation import Knob, LimitNotEnforceable
from jobsup.isolation.cgroup import Leaf, holds
from jobsup.isolation.hierarchy import Hierarchy

PAGE = os.sysconf("SC_PAGE_SIZE")

# Every file that an option of its own writes, and one that only --cgroup does.
KNOBS = [
    Knob("cpu.max", "50000 100000", "cpus"),
    Knob("cpu.weight", "50", "cpu_weight"),
    Knob("cpuset.cpus", "0-1", "cpuset"),
    Knob("memory.max", "67108864", "mem"),
    Knob("memory.high", "67108864", "mem_high"),
    Knob("memory.low", "67108864", "mem_low"),
    Knob("memory.swap.max", "0", "swap"),
    Knob("memory.oom.group", "1", "oom_group"),
    Knob("pids.max", "64", "pids"),
    Knob("io.max", "8:0 wbps=1048576", "io_max"),
    Knob("io.weight", "default 50", "io_weight"),
    Knob("memory.zswap.max", "0", "cgroup"),
]
each_knob = pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.file)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What stands in for the leaf's directory."""
    return tmp_path


@pytest.fixture
def leaf(directory: Path) -> Iterator[Leaf]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    yield Leaf(descriptor, "leaf", Hierarchy("/nowhere", "/nowhere/jobsup"))
    os.close(descriptor)


@each_knob
def test_a_write_that_has_no_effect_is_an_error_that_names_the_knob(
    leaf: Leaf, directory: Path, knob: Knob
) -> None:
    (directory / knob.file).symlink_to("/dev/null")
    with pytest.raises(LimitNotEnforceable) as error:
        leaf.apply([knob])
    assert error.value.knob == knob.file
    assert error.value.message.startswith(f"{knob.file} cannot be enforced: ")
    assert "--" + knob.flag.replace("_", "-") in str(error.value.hint)


@each_knob
def test_a_value_that_came_out_otherwise_is_an_error_that_tells_both(
    leaf: Leaf, directory: Path, knob: Knob
) -> None:
    more = "9" if knob.file.startswith("cpuset") else "99999"
    # The write changes the beginning alone.
    (directory / knob.file).write_text("." * len(knob.value) + more)
    with pytest.raises(LimitNotEnforceable) as error:
        leaf.apply([knob])
    assert error.value.knob == knob.file
    assert repr(knob.value) in error.value.cause
    assert repr(knob.value + more) in error.value.cause


@each_knob
def test_a_file_that_the_kernel_lacks_is_an_error_that_names_it(
    leaf: Leaf, directory: Path, knob: Knob
) -> None:
    (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    with pytest.raises(LimitNotEnforceable) as error:
        leaf.apply([knob])
    assert error.value.knob == knob.file
    assert "ENOENT" in error.value.cause


@each_knob
def test_a_write_that_is_refused_is_an_error_with_the_errno(
    leaf: Leaf, directory: Path, knob: Knob
) -> None:
    (directory / knob.file).symlink_to("/dev/full")
    with pytest.raises(LimitNotEnforceable) as error:
        leaf.apply([knob])
    assert error.value.knob == knob.file
    assert "ENOSPC" in error.value.cause


@each_knob
def test_a_limit_that_holds_is_told_as_the_kernel_tells_it(
    leaf: Leaf, directory: Path, knob: Knob
) -> None:
    (directory / knob.file).touch()
    (directory / "cpuset.cpus.effective").write_text("0-1\n")
    assert leaf.apply([knob]) == {knob.file: knob.value}


@pytest.mark.parametrize("effective", ["0", "2-3", "0-3", ""])
def test_processors_that_are_not_to_be_had_are_an_error(
    leaf: Leaf, directory: Path, effective: str
) -> None:
    """The kernel keeps the value, and runs the job on what there is."""
    (directory / "cpuset.cpus").touch()
    (directory / "cpuset.cpus.effective").write_text(f"{effective}\n")
    with pytest.raises(LimitNotEnforceable) as error:
        leaf.apply([Knob("cpuset.cpus", "0-1", "cpuset")])
    assert error.value.knob == "cpuset.cpus"
    assert repr(effective) in error.value.cause
    assert "--cpuset" in str(error.value.hint)


def test_a_limit_that_a_later_one_undoes_is_an_error(leaf: Leaf, directory: Path) -> None:
    (directory / "pids.max").touch()
    with pytest.raises(LimitNotEnforceable, match=r"pids\.max cannot be enforced: '64' was"):
        leaf.apply([Knob("pids.max", "64", "pids"), Knob("pids.max", "99", "cgroup")])


# ---- the documented roundings


@given(
    st.integers(0, 2**62), st.sampled_from(["memory.max", "memory.swap.max", "memory.zswap.max"])
)
def test_memory_holds_when_it_is_rounded_down_to_pages_and_no_further(size: int, file: str) -> None:
    rounded = size // PAGE * PAGE
    asked = Knob(file, str(size), "mem")
    assert holds(asked, str(rounded))
    assert not holds(asked, str(rounded + PAGE))
    assert not holds(asked, str(rounded - PAGE))
    assert not holds(asked, "max")


@pytest.mark.parametrize(
    ("file", "asked", "read"),
    [
        ("memory.high", "64M", "67108864"),
        ("memory.max", "max", "max"),
        ("memory.zswap.writeback", "1", "1"),
        ("cpu.max", "max", "max 100000"),
        ("cpu.max", "20000", "20000 100000"),
        ("io.weight", "50", "default 50"),
        ("io.weight", "8:0 50", "default 100\n8:0 50"),
        ("io.max", "8:0 wbps=5", "8:0 rbps=max wbps=5 riops=max wiops=max"),
        ("io.max", "8:0 wbps=5", "7:0 rbps=max wbps=9 riops=7 wiops=max\n8:0 rbps=max wbps=5"),
        ("io.max", "8:0 wbps=max", ""),
        ("misc.max", "sev 3", "sev 3\nsev_es max"),
        ("cpuset.cpus", "0,1,2,7", "0-2,7"),
    ],
)
def test_other_words_of_the_kernel_for_the_same_value_hold(
    file: str, asked: str, read: str
) -> None:
    assert holds(Knob(file, asked, "cgroup"), read)


@pytest.mark.parametrize(
    ("file", "asked", "read"),
    [
        ("memory.high", "64M", "64"),
        ("memory.oom.group", "1", "0"),
        ("memory.zswap.writeback", "1", "0"),
        ("cpu.max", "50000 100000", "50000 200000"),
        ("cpu.max", "50000 100000", "max 100000"),
        ("io.weight", "default 50", "default 100\n8:0 50"),
        ("io.weight", "8:0 50", "default 50"),
        ("io.max", "8:0 wbps=5", "7:0 rbps=max wbps=5 riops=max wiops=max"),
        ("io.max", "8:0 wbps=5", ""),
        ("cpuset.cpus", "0-3", "0-1"),
        ("pids.max", "64", "max"),
        ("pids.max", "64", "6"),
    ],
)
def test_another_value_does_not_hold(file: str, asked: str, read: str) -> None:
    assert not holds(Knob(file, asked, "cgroup"), read)
