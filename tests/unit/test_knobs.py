"""When a limit that was read back is the one that was asked for."""

from __future__ import annotations

import os

import pytest

from jobsup.isolation import IoLimit, Knob, PathRefused
from jobsup.isolation.cgroup import holds
from jobsup.isolation.devices import io_knobs, whole_disk

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("file", "asked", "read"),
    [
        ("memory.max", "1000000", str(1000000 // PAGE * PAGE)),
        ("memory.max", "max", "max"),
        ("memory.oom.group", "1", "1"),
        ("cpu.max", "50000 100000", "50000 100000"),
        ("pids.max", "64", "64"),
        ("io.weight", "50", "default 50"),
        ("io.weight", "default 50", "default 50\n8:0 70"),
        ("io.bfq.weight", "50", "50"),
        ("cpuset.cpus", "0,1,2", "0-2"),
        ("io.max", "8:0 wbps=10", "8:0 rbps=max wbps=10 riops=max wiops=max"),
        ("io.max", "8:0 wbps=max", ""),
    ],
)
def test_the_kernels_own_spelling_and_rounding_hold(file: str, asked: str, read: str) -> None:
    assert holds(Knob(file, asked, "x"), read)


@pytest.mark.parametrize(
    ("file", "asked", "read"),
    [
        ("memory.max", "1000000", "1000000000"),
        ("memory.max", "1000000", "max"),
        ("memory.max", "8192", "4096"),
        ("memory.max", "8192", ""),
        ("memory.oom.group", "1", "0"),
        ("cpu.max", "50000 100000", "max 100000"),
        ("pids.max", "64", "max"),
        ("io.weight", "50", "default 100"),
        ("cpuset.cpus", "0-2", "0-1"),
        ("io.max", "8:0 wbps=10", ""),
        ("io.max", "8:0 wbps=10", "8:16 rbps=max wbps=10 riops=max wiops=max"),
        ("io.max", "8:0 wbps=10", "8:0 rbps=max wbps=11 riops=max wiops=max"),
        ("io.max", "8:0 wbps=10", "8:0 rbps=max wbps=100 riops=max wiops=max"),
    ],
)
def test_any_other_value_does_not(file: str, asked: str, read: str) -> None:
    assert not holds(Knob(file, asked, "x"), read)


def test_a_tmpfs_has_no_disk_to_limit() -> None:
    with pytest.raises(PathRefused, match="tmpfs") as caught:
        whole_disk(b"/dev/shm")
    assert caught.value.field == "io_max"


def test_a_missing_path_has_no_disk() -> None:
    with pytest.raises(PathRefused, match="No such file"):
        whole_disk(b"/no/such")


def test_a_device_that_the_kernel_does_not_have_is_refused() -> None:
    with pytest.raises(PathRefused, match="sysfs"):
        whole_disk(b"4000:1")


def disks() -> list[str]:
    return sorted(os.listdir("/sys/block"))


def test_numbers_of_a_whole_disk_are_its_own() -> None:
    with open(f"/sys/block/{disks()[0]}/dev") as file:
        number = file.read().strip()
    assert whole_disk(number.encode()) == number
    knobs = io_knobs((IoLimit(number.encode(), rbps=5, wiops=7),))
    assert knobs == [Knob("io.max", f"{number} rbps=5 wiops=7", "io_max")]
