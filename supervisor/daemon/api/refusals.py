"""What the server itself refuses, before any job is looked at; and every error as a message."""

from __future__ import annotations

import errno
import os

from jobsup.isolation import LimitNotEnforceable, PathRefused

from ...errors import BadValue, JobsupError, code_of
from ...protocol import ERROR_STATUS, ErrorBody, ErrorInfo

# What says that the host has no more of something just now.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SHOWN = 1000  # characters


class Refusal(JobsupError):
    """An error with one of the codes of the protocol.

    Attributes:
        code: a key of ERROR_STATUS.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def of_system(error: OSError) -> JobsupError | None:
    """What an error of the kernel's means to a client; None for what should not happen."""
    what = os.strerror(error.errno or 0)
    if error.errno in _EXHAUSTED:
        return Refusal("overloaded", f"the daemon has no room: {what}", hint="try again")
    if error.errno in _FULL:
        return Refusal("storage-full", f"the daemon cannot keep it: {what}")
    return None


def body_of(error: JobsupError) -> tuple[int, ErrorBody]:
    """The HTTP status of an error, and the body that tells of it."""
    code = code_of(error)
    message, hint = _sendable(error.message), error.hint and _sendable(error.hint)
    info = ErrorInfo(code=code, message=message, hint=hint, **_details(error))
    return ERROR_STATUS[code], ErrorBody(info)


def internal() -> Refusal:
    """Of what should not happen a client learns that it did; the log has the rest."""
    return Refusal("internal", "the daemon made a mistake; its log says more")


def _details(error: JobsupError) -> dict[str, str | None]:
    match error:
        case BadValue():
            return {
                "field": error.field,
                "value": _sendable(_text(error.value)),
                "why": _sendable(error.why),
                "remedy": error.remedy,
            }
        case PathRefused():
            return {"field": error.field, "value": _sendable(os.fsdecode(error.path))}
        case LimitNotEnforceable():
            return {"field": error.knob, "why": error.cause}
    return {}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    # CPython refuses to print an integer of more than 4300 digits.
    large = isinstance(value, int) and value.bit_length() > 256
    return "a large number" if large else str(value)


def _sendable(text: str) -> str:
    """Short, and of characters that JSON has: a lone surrogate stands for a byte."""
    return text[:_SHOWN].encode(errors="backslashreplace").decode()
