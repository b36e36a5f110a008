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
from jobsup.supervisor import errors
from jobsup.supervisor.errors import BadValue, code_of
from jobsup.supervisor.failures import OutOfMemory, failure_of
from jobsup.supervisor.protocol import ERROR_STATUS
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


def test_a_path_is_told_so_that_a_terminal_can_show_it() -> None:
    path = "/\x1b]0;owned\x07\x9b2J\u202e\n".encode() + b"\xff"
    error = PathRefused("cwd", path, "is not there")
    assert error.message == r"/\x1b]0;owned\x07\x9b2J\u202e\n\xff: is not there"
    assert error.path == path


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_a_journey(error: JobsupError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


DAEMONS = [
    getattr(errors, name)
    for name in errors.__all__
    if name not in {"JobsupError", "code_of", *(type(error).__name__ for error in ERRORS)}
]


@pytest.mark.parametrize("kind", DAEMONS, ids=lambda kind: kind.__name__)
def test_an_error_of_the_daemons_is_made_from_what_is_sent(kind: type[JobsupError]) -> None:
    error = kind("what happened", hint="what to do")
    assert (error.message, error.hint) == ("what happened", "what to do")
    assert code_of(error) in ERROR_STATUS


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadValue("mem", 1, "is"), "bad-value"),
        (HostNotSupported("x"), "host-not-supported"),
        (LimitNotEnforceable("memory.max", "x"), "limit-not-enforceable"),
        (PathRefused("rw", b"/", "x"), "path-refused"),
        (LaunchFailed("clone3", 12), "launch-failed"),
        (errors.NoSuchJob("x"), "not-found"),
        (errors.StorageFull("x"), "storage-full"),
        (JobsupError("x"), "internal"),
        (OutOfMemory(VERDICT), "internal"),
    ],
)
def test_codes_are_those_of_the_api(error: JobsupError, code: str) -> None:
    assert code_of(error) == code
    assert code in ERROR_STATUS


def test_a_code_means_one_kind_of_error() -> None:
    codes = [kind.code for kind in DAEMONS if kind.code != "internal"]
    assert len(codes) == len(set(codes)) >= 8
