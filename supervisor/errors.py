"""What was asked wrongly, and the errors of isolation's door beside it: one family.

The base, JobsupError, is isolation's, so that one `except` catches all. The errors that stand for
a job's end are in failures.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable

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

    def repr_bytes(self, x: bytes, level: int) -> str:
        # They stand for text: a path, an argument.
        return self.repr_str(os.fsdecode(x), level)


_shown = _Shown()

# How a reader knows an option, given its field and perhaps a value for it.
Naming = Callable[[str, str | None], str]
_MENTION = re.compile(r"\{([a-z_]+)(?:=([^{}]*))?\}")


def in_python(field: str, value: str | None = None) -> str:
    """An option as a keyword: mem_high, or mem_high=1G."""
    return field if value is None else f"{field}={value}"


class BadValue(JobsupError):
    """A value that was asked for cannot be; nothing was created.

    Attributes:
        field: the option as the library names it ("mem_high"); "argv" is the command itself.
        value: the value as it was given.
        why: the rest of a sentence that begins with the value ("is not a size"). It and the remedy
            mention other options as "{mem}", or "{mem=1G}" with a value.
    """

    def __init__(self, field: str, value: object, why: str, remedy: str | None = None) -> None:
        self.field = field
        self.value = value
        self.why = why
        self.remedy = remedy
        super().__init__(self.sentence(in_python), hint=self.advice(in_python))

    def sentence(self, naming: Naming) -> str:
        """The message, for a reader who knows options by these names."""
        name = naming(self.field, None)
        return f"{name}: {_shown.repr(self.value)} {_mentioning(self.why, naming)}"

    def advice(self, naming: Naming) -> str | None:
        """The hint, for a reader who knows options by these names."""
        return self.remedy and _mentioning(self.remedy, naming)


def _mentioning(text: str, naming: Naming) -> str:
    return _MENTION.sub(lambda found: naming(found[1], found[2]), text)
