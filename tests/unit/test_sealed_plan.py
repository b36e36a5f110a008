"""A plan's memfd: sealed, or none at all."""

from __future__ import annotations

import os
import resource

import pytest

from jobsup.isolation import LaunchFailed
from jobsup.isolation.spawn import sealed_plan


def test_nobody_can_change_it() -> None:
    descriptor = sealed_plan(b"plan")
    with pytest.raises(PermissionError):
        os.write(descriptor, b"x")
    assert os.pread(descriptor, 9, 0) == b"plan"
    os.close(descriptor)


def test_one_that_cannot_be_written_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(LaunchFailed, match="making a memfd of the plan: File too large"):
            sealed_plan(b"plan")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir("/proc/self/fd") == before
