"""Fixtures of the crash tests. All need a kernel that can run jobs, and a root to run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.station import Station, Zygote


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.requires("root", "cgroup2"))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    forks = Zygote()
    yield forks
    forks.close()


@pytest.fixture
def open_station(zygote: Zygote, tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Makes a station whose daemons have these options of `jobsup serve`."""
    with ExitStack() as stack:

        def make(**options: object) -> Station:
            return stack.enter_context(Station(tmp_path, zygote, **options))

        yield make


@pytest.fixture
def station(open_station: Callable[..., Station]) -> Station:
    return open_station()
