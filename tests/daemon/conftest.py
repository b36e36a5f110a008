"""Fixtures of the tests that put a real daemon, with real jobs, under stress. All need a kernel
that can run jobs. Together they take some three minutes in the guest; the longer forms of some are
asked for by environment variables, which their modules name."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from tests.daemon.served import Served
from tests.machine import end_all_jobs, leaves

Opener = Callable[..., Served]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.requires("root", "cgroup2"))


@pytest.fixture(scope="session", autouse=True)
def _descriptors() -> None:
    """A thousand clients are a thousand descriptors of this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))


@contextmanager
def served(
    *flags: str,
    before: Callable[[Path], object] | None = None,
    **options: Any,  # noqa: ANN401 - those of Served
) -> Iterator[Served]:
    """A daemon in a directory of its own; at the end nothing of it or of its jobs is left.
    `before` is called with its state directory, which is not there yet."""
    # Not below pytest's own directory, which only root may enter.
    directory = Path(tempfile.mkdtemp(prefix="jobsup-daemon-", dir="/run"))
    directory.chmod(0o711)
    try:
        with Served(directory, *flags, **options) as daemon:
            if before is not None:
                before(daemon.state)
            daemon.start()
            yield daemon
    finally:
        rmtree(directory)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    """One for all tests of a module: to start one takes seconds in the guest."""
    with served() as daemon:
        yield daemon


@pytest.fixture
def open_daemon() -> Iterator[Opener]:
    """Makes one with these flags of `jobsup serve`, for one test."""
    with ExitStack() as stack:
        yield lambda *flags, **options: stack.enter_context(served(*flags, **options))


@pytest.fixture
def clean(daemon: Served) -> Iterator[Served]:
    """The module's daemon without jobs, before and after."""
    daemon.revive()
    said = daemon.log.stat().st_size
    yield daemon
    try:
        for line in daemon.api.all():
            daemon.api.call("DELETE", f"/jobs/{line['id']}", force=1)
        assert leaves() == set(), "a cgroup outlived its job"
        assert b"Traceback" not in daemon.log.read_bytes()[said:], daemon.last_words()
    finally:
        end_all_jobs()  # so that one failure stays one


def long_form(variable: str, short: int) -> int:
    """How many: as the variable says, else what is enough for every day."""
    return int(os.environ.get(variable) or short)
