"""Errors cross process borders: a pool of processes must be able to hand them back."""

from __future__ import annotations

import pickle

import pytest

from jobsup.isolation import (
    HostNotSupported,
    JobsupError,
    LaunchFailed,
    LimitNotEnforceable,
    PathRefused,
)
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.failures import OutOfMemory, failure_of
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.verdict import judge

VERDICT = judge(Spec.make(["true"]), "id", None, {})

ERRORS = [
    HostNotSupported("no cgroup v2", hint="boot with it"),
    LimitNotEnforceable("memory.max", "no controller", hint="boot with it"),
    PathRefused("rw", b"/\xff", "is not there"),
    LaunchFailed("clone3", 12),
    BadValue("mem", "256X", "is not a size", "256M"),
    failure_of(VERDICT, args_=["true"], stdout=b"out"),
    OutOfMemory(VERDICT),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_a_journey(error: JobsupError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)
