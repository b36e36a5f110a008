"""What was asked wrongly, and the errors of isolation's door beside it: one family.

The base, JobsupError, is isolation's, so that one `except` catches all. The errors that stand for
a job's end are in failures.
"""

from __future__ import annotations

import reprlib

from jobsup.isolation import (
    HostNotSupported,
    JobsupError,
    LaunchFailed,
    LimitNotEnforceable,
    PathRefused,
)

__all__ = [
    "BadValue",
    "HostNotSupported",
    "JobsupError",
    "LaunchFailed",
    "LimitNotEnforceable",
    "PathRefused",
]


class _Shown(reprlib.Repr):
    """repr() that is short, and never fails: what is shown may be anything at all."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        # CPython refuses to print an integer of more than 4300 digits.
        return repr(x) if x.bit_length() < 256 else f"an integer of {x.bit_length()} bits"


_shown = _Shown()


class BadValue(JobsupError):
    """A value that was asked for cannot be; nothing was created.

    Attributes:
        field: the option as the library names it ("mem_high"); "argv" is the command itself.
        value: the value as it was given.
        why: the rest of a sentence that begins with the value ("is not a size").
    """

    def __init__(self, field: str, value: object, why: str, remedy: str | None = None) -> None:
        self.field = field
        self.value = value
        self.why = why
        super().__init__(self.sentence(field), hint=remedy)

    def sentence(self, name: str) -> str:
        """The message for a reader who knows the field as `name` ("--mem-high")."""
        return f"{name}: {_shown.repr(self.value)} {self.why}"
