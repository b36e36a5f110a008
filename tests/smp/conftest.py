"""Tests for which one processor is not enough: cpuset, and threads that run at the very same time.

Their guest is vagrant/qemu, where Python is fifteen times slower than here: a test in here launches
its jobs itself, starts no Python in them where a shell will do, and there are few.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import jobs as jobs
from tests.kernel.conftest import nothing_left as nothing_left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            needs = ("root", "cgroup2", "cgroup-cpuset", "processors")
            item.add_marker(pytest.mark.requires(*needs))
