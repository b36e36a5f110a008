"""Fixtures of the tests that run on a host that systemd runs.

They change the host's units, so they run in a guest alone (tests/run), each from and to a host
without jobsup.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsup.supervisor.systemd import DIRECTORY, UNITS, install
from tests.kernel.jobs import Jobs
from tests.systemd.manager import DAEMON, KEEPER, systemctl


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.requires("root", "systemd"))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Runs jobs through the command line; at its end the keeper and all in it go."""
    runner = Jobs(tmp_path)
    yield runner
    runner.close()
    systemctl("stop", KEEPER)


@pytest.fixture(scope="module")
def units() -> Iterator[None]:
    """The units are in place until the module's end; nothing of them runs yet."""
    install(start=False)
    systemctl("daemon-reload")
    yield
    systemctl("stop", *UNITS)
    systemctl("disable", "--quiet", DAEMON)
    for unit in UNITS:
        (DIRECTORY / unit).unlink()
    systemctl("daemon-reload")
