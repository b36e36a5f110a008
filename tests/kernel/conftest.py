"""Fixtures of the tests that run real jobs on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.jobs import Jobs, inits, leaves

MOUNTS = Path("/proc/self/mountinfo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.requires("root", "cgroup2"))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Runs jobs through the command line."""
    runner = Jobs(tmp_path)
    yield runner
    runner.close()


@pytest.fixture(autouse=True)
def nothing_left(jobs: Jobs) -> Iterator[None]:
    """After every test, whatever its job did: no cgroup, no init, no mount more than before."""
    mounts = MOUNTS.read_text()
    yield
    jobs.close()
    assert inits() == set(), "an init outlived its job"
    assert leaves() == set(), "a cgroup outlived its job"
    assert MOUNTS.read_text() == mounts, "a mount outlived its job"
