"""Every limit that was asked for is in force: in the leaf as the host sees it, and as reported.

And where it would not be, no job starts, the error names the knob, and nothing is left (which the
fixture nothing_left sees to after every test).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobsup.isolation import Knob, LimitNotEnforceable, PathRefused, open_hierarchy
from jobsup.isolation.cgroup import Leaf as OwnLeaf
from tests.kernel.jobs import Jobs, here, run_here
from tests.machine import Leaf

MIB = 1 << 20

LIMITS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"pids.max": "4096"}),
    ({"pids": 17}, {"pids.max": "17"}),
    ({"pids": "max"}, {"pids.max": "max"}),
    (
        {"mem": "64M"},
        {"memory.max": str(64 * MIB), "memory.swap.max": "0", "memory.oom.group": "1"},
    ),
    ({"mem": 10_000_000}, {"memory.max": "9998336"}),  # whole pages
    ({"mem": "64M", "swap": "16M"}, {"memory.swap.max": str(16 * MIB)}),
    ({"mem": "64M", "swap": "max"}, {"memory.swap.max": "max"}),
    ({"mem": "64M", "oom_group": False}, {"memory.oom.group": "0"}),
    ({"mem_high": "48M"}, {"memory.high": str(48 * MIB)}),
    ({"mem_low": "8M"}, {"memory.low": str(8 * MIB)}),
    ({"cpus": "0.5"}, {"cpu.max": "50000 100000"}),
    ({"cpus": "0.001"}, {"cpu.max": "1000 1000000"}),
    ({"cpus": "2.5"}, {"cpu.max": "250000 100000"}),
    ({"cpu_weight": 42}, {"cpu.weight": "42"}),
    ({"cgroup": "memory.min=1048576"}, {"memory.min": "1048576"}),
    ({"cgroup": "memory.max=64M"}, {"memory.max": str(64 * MIB), "memory.swap.max": "0"}),
    ({"cgroup": ["cpu.max=20000", "cpu.idle=1"]}, {"cpu.max": "20000 100000", "cpu.idle": "1"}),
]


@pytest.mark.parametrize(("options", "files"), LIMITS, ids=str)
def test_a_limit_is_in_the_leaf_and_in_the_verdict(
    options: dict[str, Any], files: dict[str, str]
) -> None:
    with here(["cat"], **options) as job:
        assert {file: Leaf.of(job.id).read(file) for file in files} == files
        job.handle.kill()  # with a thousandth of a processor its own end would take long
        verdict, _, _ = job.end()
    assert {file: verdict.limits[file] for file in files} == files


@pytest.mark.requires("cgroup-io")
def test_an_io_weight_is_in_the_leaf_and_in_the_verdict() -> None:
    with here(["cat"], io_weight=50) as job:
        assert Leaf.of(job.id).read("io.weight") == "default 50"
        verdict, _, _ = job.end()
    assert verdict.limits["io.weight"] == "default 50"


def _number(device: Path) -> str:
    status = device.stat()
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


@pytest.mark.requires("cgroup-io")
def test_io_limits_are_in_the_leaf_whether_the_disk_is_named_or_a_path_on_it(
    disk: Path, ext4: Path
) -> None:
    number = _number(disk)
    for target in (str(disk), number, str(ext4)):
        rates = f"{target}:rbps=8M,wbps=1M,riops=800,wiops=100"
        with here(["cat"], io_max=rates) as job:
            line = f"{number} rbps=8388608 wbps=1048576 riops=800 wiops=100"
            assert Leaf.of(job.id).read("io.max") == line
            verdict, _, _ = job.end()
        assert verdict.limits["io.max"] == line


@pytest.mark.requires("cgroup-io")
def test_io_limits_of_a_partition_are_those_of_its_disk(disk: Path) -> None:
    subprocess.run(["addpart", str(disk), "1", "2048", "8192"], check=True)
    try:
        with here(["cat"], io_max=f"{disk}p1:wbps=1M") as job:
            assert Leaf.of(job.id).read("io.max").startswith(f"{_number(disk)} ")
    finally:
        subprocess.run(["delpart", str(disk), "1"], check=True)


@pytest.mark.requires("cgroup-io")
def test_limits_that_undo_each_other_are_an_error(disk: Path) -> None:
    with pytest.raises(LimitNotEnforceable) as error:
        run_here(["true"], io_max=[f"{disk}:wbps=1M", f"{_number(disk)}:wbps=2M"])
    assert error.value.knob == "io.max"


@pytest.mark.requires("cgroup-io")
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/proc", "is on proc, which has no disk to limit"),
        ("/dev/shm", "is on tmpfs, which has no disk to limit"),
        ("/nowhere", "No such file or directory"),
        ("99999:0", "its device is not in sysfs"),
        ("99999999999999999999:0", "its device is not in sysfs"),
    ],
)
def test_an_io_limit_on_what_has_no_disk_is_refused(target: str, why: str) -> None:
    with pytest.raises(PathRefused) as error:
        run_here(["true"], io_max=f"{target}:wbps=1M")
    assert error.value.field == "io_max"
    assert error.value.message == f"{target}: {why}"


# ---- where the kernel takes the write, and the value differs


@pytest.mark.parametrize("file", ["memory.max", "memory.high", "memory.low", "memory.swap.max"])
def test_an_amount_that_the_kernel_turns_into_no_limit_is_refused(jobs: Jobs, file: str) -> None:
    ended = jobs.run(["true"], cgroup=f"{file}={2**63}")
    assert ended.status == 125
    assert ended.stderr.startswith(f"jobsup: {file} cannot be enforced: '{2**63}' was".encode())
    assert b"says 'max'" in ended.stderr
    assert ended.verdict == {}


def test_a_number_that_the_kernel_reads_otherwise_is_refused(jobs: Jobs) -> None:
    ended = jobs.run(["true"], cgroup="pids.max=010")
    assert ended.status == 125
    assert b"pids.max cannot be enforced: '010' was written and the kernel says '8'" in ended.stderr


@pytest.mark.requires("cgroup-io")
def test_a_rate_that_the_kernel_cuts_off_is_refused(jobs: Jobs, disk: Path) -> None:
    ended = jobs.run(["true"], cgroup=f"io.max={_number(disk)} wiops={2**33}")
    assert ended.status == 125
    assert ended.stderr.startswith(b"jobsup: io.max cannot be enforced: ")


@pytest.mark.parametrize(
    "knob",
    [
        Knob("cpu.max", "50000 100000", "cpus"),
        Knob("cpu.weight", "50", "cpu_weight"),
        Knob("memory.max", "67108864", "mem"),
        Knob("memory.high", "67108864", "mem_high"),
        Knob("memory.low", "67108864", "mem_low"),
        Knob("memory.swap.max", "0", "swap"),
        Knob("memory.oom.group", "1", "oom_group"),
        Knob("pids.max", "64", "pids"),
        pytest.param(
            Knob("io.weight", "default 50", "io_weight"), marks=pytest.mark.requires("cgroup-io")
        ),
    ],
    ids=lambda knob: knob.file,
)
def test_a_real_leaf_whose_file_swallows_the_write_is_found_out(knob: Knob) -> None:
    leaf = OwnLeaf.make(open_hierarchy(), "swallows")
    file = Path(open_hierarchy().leaf("swallows"), knob.file)
    subprocess.run(["mount", "--bind", "/dev/null", str(file)], check=True)
    try:
        with pytest.raises(LimitNotEnforceable) as error:
            leaf.apply([knob])
        assert error.value.knob == knob.file
    finally:
        subprocess.run(["umount", str(file)], check=True)
        assert leaf.clear()
        leaf.close()


# ---- where the kernel refuses, or lacks the knob


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("cpu.max=1 100000", "the kernel refuses '1 100000' (EINVAL)"),
        ("memory.max=lots", "the kernel refuses 'lots' (EINVAL)"),
        ("pids.max=-1", "the kernel refuses '-1' (EINVAL)"),
        ("memory.nonsense=1", "this kernel does not have it (ENOENT)"),
        ("hugetlb.2MB.max=0", "this kernel does not have it (ENOENT)"),
        ("memory.current=1", "the kernel refuses '1' (EINVAL)"),
    ],
)
def test_what_the_kernel_refuses_is_told_with_the_reason(setting: str, why: str) -> None:
    with pytest.raises(LimitNotEnforceable) as error:
        run_here(["true"], cgroup=setting)
    assert error.value.knob == setting.partition("=")[0]
    assert error.value.cause == why
