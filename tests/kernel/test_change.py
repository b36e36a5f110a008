"""Other limits for a job that runs: all that were asked for, or none; and what it uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobsup.isolation import (
    Bind,
    IoLimit,
    Knob,
    LimitNotEnforceable,
    Limits,
    PathRefused,
    open_hierarchy,
)
from tests.kernel.kept import GOES_ON, Keeper, end_of, status_of, walls
from tests.machine import Leaf

MEM = Knob("memory.max", str(64 << 20), "mem")
PIDS = Knob("pids.max", "64", "pids")


def test_what_is_changed_is_in_force_and_read_back(keeper: Keeper) -> None:
    job = keeper.launch(walls(GOES_ON), Limits((MEM, PIDS)))
    status_of(job)
    asked = (Knob("memory.max", "100000001", "mem"), Knob("cpu.max", "50000 100000", "cpus"))
    assert job.change(Limits(asked)) == {"memory.max": "99999744", "cpu.max": "50000 100000"}
    leaf = Leaf.of(keeper.name)
    assert leaf.read("memory.max") == "99999744"
    assert leaf.read("pids.max") == "64"
    assert job.limits == {
        "memory.max": "99999744",
        "pids.max": "64",
        "cpu.max": "50000 100000",
    }
    job.kill()
    end_of(job)


def test_an_adopted_job_too(keeper: Keeper) -> None:
    keeper.launch_and_die(walls(GOES_ON))
    job = keeper.adopt()
    status_of(job)
    assert job.change(Limits((Knob("pids.max", "7", "pids"),))) == {"pids.max": "7"}
    assert Leaf.of(keeper.name).read("pids.max") == "7"
    assert job.counters()["pids.current"] in {"1", "2"}
    job.kill()
    end_of(job)


@pytest.mark.parametrize("refused", ["memory.high=lots", "no.such=1", "pids.peak=1"])
def test_when_one_is_refused_all_stay_as_they_were(keeper: Keeper, refused: str) -> None:
    job = keeper.launch(walls(GOES_ON), Limits((MEM, PIDS)))
    status_of(job)
    leaf = Leaf.of(keeper.name)
    files = ("memory.max", "pids.max", "cpu.max", "cpu.weight", "memory.low")
    before = {file: leaf.read(file) for file in files}
    groups = {group: Path(group, "memory.low").read_text() for group in _groups()}
    file, _, value = refused.partition("=")
    asked = (
        Knob("pids.max", "9", "pids"),
        Knob("cpu.max", "10000 100000", "cpus"),
        Knob("cpu.weight", "7", "cpu_weight"),
        Knob("memory.low", str(1 << 20), "mem_low"),
        Knob(file, value, "cgroup"),
        Knob("memory.max", str(128 << 20), "mem"),
    )
    with pytest.raises(LimitNotEnforceable) as error:
        job.change(Limits(asked))
    assert error.value.knob == file
    assert {file: leaf.read(file) for file in files} == before
    assert {group: Path(group, "memory.low").read_text() for group in _groups()} == groups
    assert job.limits == {"memory.max": str(64 << 20), "pids.max": "64"}
    job.kill()
    end_of(job)


@pytest.mark.parametrize("high", [(), (Knob("memory.high", str(30 << 20), "mem_high"),)])
def test_less_memory_than_a_job_holds_is_refused_and_kills_nothing(
    keeper: Keeper, high: tuple[Knob, ...]
) -> None:
    script = "head -c 40M /dev/zero > /dev/shm/x; echo; exec sleep 1000"
    job = keeper.launch(walls(script), Limits((MEM,)))
    status_of(job)
    keeper.wait_output(b"\n")
    leaf = Leaf.of(keeper.name)
    with pytest.raises(LimitNotEnforceable, match=r"the job uses 4[0-9]{4}K") as error:
        job.change(Limits((PIDS, *high, MEM._replace(value=str(20 << 20)))))
    assert error.value.hint is not None
    assert (leaf.read("memory.max"), leaf.read("memory.high")) == (MEM.value, "max")
    assert leaf.value("memory.events", "oom") == 0
    assert job.limits == {"memory.max": MEM.value}
    used = error.value.hint.split()[2].removesuffix("K")
    job.change(Limits((MEM._replace(value=str((int(used) + 1024) << 10)),)))
    job.kill()
    end_of(job)


def test_what_the_kernel_can_reclaim_is_no_reason_to_refuse(keeper: Keeper, ext4: Path) -> None:
    source = ext4 / "x"
    with source.open("wb") as file:
        file.write(bytes(40 << 20))
        file.flush()
        os.fsync(file.fileno())
        # Whoever reads it next is charged for its pages.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    grant = Bind(bytes(source), bytes(source), writable=False)
    script = f"cat {source} > /dev/null; echo; exec sleep 1000"
    job = keeper.launch(walls(script, grants=(grant,)), Limits((MEM,)))
    status_of(job)
    keeper.wait_output(b"\n")
    leaf = Leaf.of(keeper.name)
    assert int(leaf.read("memory.current")) > 20 << 20
    asked = MEM._replace(value=str(20 << 20))
    assert job.change(Limits((asked,))) == {"memory.max": asked.value}
    assert leaf.read("memory.high") == "max"
    assert leaf.value("memory.events", "oom") == 0
    job.kill()
    end_of(job)


def _groups() -> tuple[str, str]:
    place = open_hierarchy()
    return place.base, place.jobs


def test_protected_memory_is_protected_above_too_and_no_longer_than_the_job(
    keeper: Keeper,
) -> None:
    job = keeper.launch(walls(GOES_ON))
    status_of(job)
    job.change(Limits((Knob("memory.low", str(1 << 20), "mem_low"),)))
    for group in _groups():
        assert Path(group, "memory.low").read_text() == f"{1 << 20}\n"
    job.kill()
    end_of(job)
    for group in _groups():
        assert Path(group, "memory.low").read_text() == "0\n"


@pytest.mark.requires("cgroup-io")
def test_limits_of_a_disk_come_and_go_by_the_line(keeper: Keeper, disk: Path) -> None:
    job = keeper.launch(walls(GOES_ON))
    status_of(job)
    leaf = Leaf.of(keeper.name)
    one = IoLimit(os.fsencode(disk), wbps=1 << 20)
    number = job.change(Limits(io=(one,)))["io.max"].split()[0]
    assert leaf.read("io.max") == f"{number} rbps=max wbps=1048576 riops=max wiops=max"
    refused = Knob("memory.high", "lots", "mem_high")
    with pytest.raises(LimitNotEnforceable):
        job.change(Limits((refused,), (one._replace(wbps=2 << 20, rbps=5),)))
    assert leaf.read("io.max") == f"{number} rbps=max wbps=1048576 riops=max wiops=max"
    with pytest.raises(PathRefused):
        job.change(Limits(io=(IoLimit(b"/proc", wbps=1),)))
    job.kill()
    end_of(job)


def test_a_job_that_has_ended_has_no_limits_to_change(keeper: Keeper) -> None:
    job = keeper.launch(walls("exit 0"))
    while job.receive() is not None:
        pass
    for conclude in (job.conclude, int):  # while its handle is there, and after
        assert job.counters() == {}
        with pytest.raises(LimitNotEnforceable, match="the job has ended"):
            job.change(Limits((PIDS,)))
        conclude()


def test_counters_are_the_kernels_own_words(keeper: Keeper) -> None:
    job = keeper.launch(walls(GOES_ON), Limits((MEM, PIDS)))
    status_of(job)
    keeper.wait_output(b"ready\n")
    found = job.counters()
    assert int(found["memory.peak"]) >= int(found["memory.current"]) > 0
    assert found["cpu.stat"].startswith("usage_usec ")
    assert "oom_kill 0" in found["memory.events"]
    job.kill()
    end_of(job)
