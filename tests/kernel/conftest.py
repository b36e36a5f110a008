"""Fixtures of the tests that run real jobs on a real kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.jobs import Jobs
from tests.kernel.kept import Keeper, kept_in
from tests.machine import end_all_jobs, inits, leaves

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


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """What a daemon keeps of a job."""
    with kept_in(tmp_path) as keeper:
        yield keeper


@pytest.fixture(autouse=True)
def nothing_left(jobs: Jobs) -> Iterator[None]:
    """After every test, whatever its job did: no cgroup, no init, no mount more than before."""
    mounts = MOUNTS.read_text()
    yield
    try:
        jobs.close()
        assert inits() == set(), "an init outlived its job"
        assert leaves() == set(), "a cgroup outlived its job"
        assert MOUNTS.read_text() == mounts, "a mount outlived its job"
    finally:
        end_all_jobs()  # so that one failure stays one


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real block device, a loop device of 256 MiB over a file in memory."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    made = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    )
    device = made.stdout.strip()
    yield Path(device)
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def ext4(disk: Path, tmp_path: Path) -> Iterator[Path]:
    """An ext4 on the disk, mounted; ext4 charges what is written back later to who wrote it."""
    directory = tmp_path / "ext4"
    directory.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    subprocess.run(["mount", str(disk), str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
