"""--mem-low holds only as far as the groups above the leaf protect as much."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsup.isolation import LimitNotEnforceable, open_hierarchy, protection
from jobsup.isolation.hierarchy import Hierarchy
from tests.kernel.jobs import Jobs, here

MIB = 1 << 20


def above(file: str = "memory.low") -> list[str]:
    """What our own groups above the leaves protect."""
    place = open_hierarchy()
    return [Path(group, file).read_text().strip() for group in (place.base, place.jobs)]


def test_the_groups_above_protect_what_all_jobs_ask_for() -> None:
    with here(["cat"], mem_low="8M"):
        assert above() == [str(8 * MIB)] * 2
        with here(["cat"], mem_low="4M"):
            assert above() == [str(12 * MIB)] * 2


def test_memory_min_is_protected_all_the_way_too() -> None:
    with here(["cat"], cgroup=f"memory.min={2 * MIB}"):
        assert above("memory.min") == [str(2 * MIB)] * 2


def test_what_is_asked_for_no_more_is_taken_back(jobs: Jobs) -> None:
    assert jobs.run(["true"], mem_low="8M").status == 0
    assert above() == ["0", "0"]


def test_a_group_of_somebody_else_that_protects_less_is_an_error() -> None:
    """As on a systemd host, where our groups are below a slice."""
    place = open_hierarchy()
    slice_group = Path(place.mount, "test.slice")
    base = slice_group / "keeper"
    jobs = base / "jobs"
    leaf = jobs / "leaf"
    try:
        for group in (slice_group, base, jobs, leaf):
            group.mkdir()
            if group != leaf:
                (group / "cgroup.subtree_control").write_text("+memory")
        (leaf / "memory.low").write_text(str(8 * MIB))
        below = Hierarchy(place.mount, str(base))
        with pytest.raises(LimitNotEnforceable, match=r"test\.slice above") as caught:
            protection.extend(below)
        assert "set-property test.slice MemoryLow" in str(caught.value.hint)
        (slice_group / "memory.low").write_text(str(9 * MIB))
        protection.extend(below)
    finally:
        for group in (leaf, jobs, base, slice_group):
            if group.exists():
                group.rmdir()
