"""The rate of a disk that a job was given holds, past the page cache and through it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.kernel.jobs import Jobs, program
from tests.machine import Leaf

pytestmark = pytest.mark.requires("cgroup-io")

MIB = 1 << 20
RATE = 10 * MIB
AMOUNT = 40 * MIB


def _written(leaf: Leaf, device: str) -> int:
    """Bytes that the job has written to the device, by the kernel's count."""
    for line in leaf.read("io.stat").splitlines():
        name, *pairs = line.split()
        if name == device:
            return int(dict(pair.split("=") for pair in pairs)["wbytes"])
    return 0


def _number(disk: Path) -> str:
    device = disk.stat().st_rdev
    return f"{os.major(device)}:{os.minor(device)}"


@pytest.mark.parametrize("how", ["direct", "fsync"])
def test_writes_keep_to_their_rate(jobs: Jobs, disk: Path, ext4: Path, how: str) -> None:
    command = program("disk_writer", how, ext4 / "file", AMOUNT // MIB)
    writer = jobs.start(command, io_max=f"{ext4}:wbps=10M", rw=[ext4])
    assert writer.line() == "writing"
    begin = time.monotonic()
    assert writer.line() == "written"
    rate = AMOUNT / (time.monotonic() - begin)
    ended = writer.end()
    assert ended.status == 0
    assert RATE / 2 < rate < RATE * 1.1  # never above; how far below, the machine has a say in
    assert ended.verdict["usage"]["io"][_number(disk)]["wbytes"] >= AMOUNT


@pytest.mark.parametrize(
    ("limit", "dd", "seconds"),
    [
        ("rbps=10M", ["if={}", "of=/dev/null", "iflag=direct", "bs=1M", "count=40"], 4),
        ("riops=200", ["if={}", "of=/dev/null", "iflag=direct", "bs=4K", "count=800"], 4),
        ("wiops=200", ["if=/dev/zero", "of={}", "oflag=direct", "bs=4K", "count=800"], 4),
    ],
)
def test_the_other_rates_hold_too(
    jobs: Jobs, ext4: Path, limit: str, dd: list[str], seconds: float
) -> None:
    file = ext4 / "file"
    file.write_bytes(bytes(AMOUNT))
    os.sync()
    command = ["dd", "conv=notrunc", *(word.format(file) for word in dd)]
    ended = jobs.run(command, io_max=f"{ext4}:{limit}", rw=[ext4])
    assert ended.status == 0
    assert seconds * 0.85 < ended.verdict["wall_seconds"] < seconds * 2


def test_what_has_no_limit_is_not_held_up(jobs: Jobs, ext4: Path) -> None:
    """Or the tests above would say nothing but how slow the disk is."""
    command = program("disk_writer", "direct", ext4 / "file", AMOUNT // MIB)
    ended = jobs.run(command, io_max=f"{ext4}:rbps=1M", rw=[ext4])
    assert ended.status == 0
    assert ended.verdict["wall_seconds"] < AMOUNT / RATE
