"""Fixtures of the tests of the API: the real server on a real socket, jobs that only pretend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pretended import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Daemon]:
    """One that has little patience and little room."""
    tmp_path.chmod(0o711)
    with Daemon(
        tmp_path,
        header_seconds=0.3,
        body_max=1000,
        stdin_max=2000,
        connections=20,
        owner_followers=2,
    ) as daemon:
        yield daemon
