"""What was asked wrongly, and the errors of isolation's door beside it: one family.

The base, JobsupError, is isolation's, so that one `except` catches all. The errors that stand for
a job's end are in failures. Each has a code for programs, a key of protocol.ERROR_STATUS; what
only a daemon can answer is made from a message and a hint, so that a client makes the same error
from what it was sent.
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
    "Ambiguous",
    "BadRequest",
    "BadValue",
    "Forbidden",
    "HostNotSupported",
    "JobsupError",
    "LaunchFailed",
    "LimitNotEnforceable",
    "NoSuchJob",
    "NotReady",
    "PathRefused",
    "QuotaExceeded",
    "SchemaTooNew",
    "StorageFull",
    "StoreCorrupt",
    "WrongState",
    "code_of",
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

    code = "bad-value"

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


# ---- what only a daemon answers


class BadRequest(JobsupError):
    """What came is no request at all: not an object, not JSON, an unknown parameter."""

    code = "bad-request"


class Forbidden(JobsupError):
    """Only root may do this, whoever's the job is."""

    code = "forbidden"


class NoSuchJob(JobsupError):
    """There is no such job, or it is somebody else's: the two look the same."""

    code = "not-found"


class Ambiguous(JobsupError):
    """Several jobs are called so, or begin so."""

    code = "ambiguous"


class WrongState(JobsupError):
    """The job cannot do that where it is now."""

    code = "wrong-state"


class NotReady(JobsupError):
    """The daemon takes no new jobs at the moment."""

    code = "not-ready"


class QuotaExceeded(JobsupError):
    """The owner has as many jobs, bytes or followers as one may have."""

    code = "quota"


class StorageFull(JobsupError):
    """What must be kept cannot be written; nothing was acknowledged."""

    code = "storage-full"


class AlreadyRunning(JobsupError):
    """Another daemon uses the same state."""

    code = "internal"


class SchemaTooNew(JobsupError):
    """The records were written by a later version; they were left as they are."""

    code = "internal"


class StoreCorrupt(JobsupError):
    """The records cannot be read: a damaged disk, or a file that is no database of ours."""

    code = "internal"


# The errors of isolation know nothing of the API.
_CODES: dict[type[JobsupError], str] = {
    HostNotSupported: "host-not-supported",
    LaunchFailed: "launch-failed",
    LimitNotEnforceable: "limit-not-enforceable",
    PathRefused: "path-refused",
}


def code_of(error: JobsupError) -> str:
    """The error's code, a key of protocol.ERROR_STATUS."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else _CODES.get(type(error), "internal")
