"""What stands behind the ? of a request: each parameter with its parser and its schema.

A parameter that nobody knows, or that comes twice, is refused: a misspelt `folow=1` must not
silently do something else.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ...errors import BadRequest, BadValue
from ...fields import choice
from ...times import parse_at
from ...units import parse_count, parse_duration

_OFFSET_MAX = (1 << 63) - 1
_LINES_MAX = 10**9


class Parameter(NamedTuple):
    """One of them. `schema` is its JSON Schema."""

    name: str
    parse: Callable[[str, str], object]
    schema: Mapping[str, Any]
    tells: str


def parse_query(text: str, known: Sequence[Parameter]) -> dict[str, Any]:
    """The parameters that were given, parsed.

    Raises:
        BadRequest: one is unknown, or given twice.
        BadValue: one cannot be.
    """
    if not text:
        return {}
    parsers = {parameter.name: parameter.parse for parameter in known}
    found: dict[str, Any] = {}
    for name, value in _pairs(text):
        if name not in parsers:
            hint = f"it has {', '.join(parsers)}" if parsers else "it has none"
            raise BadRequest(f"this request has no parameter {_shown(name)}", hint=hint)
        if name in found:
            raise BadRequest(f"the parameter {name} is given twice")
        found[name] = parsers[name](name, value)
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError as error:
        raise BadRequest("the parameters cannot be read", hint=f"{error}") from None


def _shown(name: str) -> str:
    return repr(name[:40])


def _flag(field: str, value: str) -> bool:
    """As ?follow and ?follow=1 have it."""
    if value in ("", "1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise BadValue(field, value, "is neither 0 nor 1")


def _seconds(field: str, value: str) -> float:
    return parse_duration(field, value, 0) / 1e6


def _moment(field: str, value: str) -> int:
    """A time, or a duration ago, in nanoseconds of CLOCK_REALTIME."""
    if re.match(r"[0-9]{4}-", value):
        return parse_at(field, value)
    return time.time_ns() - parse_duration(field, value, 0) * 1000


def _text(_: str, value: str) -> str:
    return value


def parse_signal(field: str, value: object) -> int:
    """A signal by name ("TERM", "SIGTERM") or by number."""
    if isinstance(value, str) and not value.isdecimal():
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        if name in signal.Signals.__members__:
            return int(signal.Signals[name])
        raise BadValue(field, value, "is no signal", "such as TERM, HUP or 10")
    return parse_count(field, value, 1, 64)


_FLAG = {"enum": ["", "0", "1", "true", "false"]}
_DURATION = {"type": "string", "examples": ["10", "1h30m"]}
_TEXT = {"type": "string"}
STREAM = Parameter(
    "stream",
    choice("stdout", "stderr"),
    {"enum": ["stdout", "stderr"]},
    "One stream, as it is in its file. Without: both, in the order in which they came.",
)
FRAMES = Parameter(
    "frames", _flag, _FLAG, "Before each burst of bytes, 24 bytes that say of what and when."
)
FOLLOW = Parameter(
    "follow",
    _flag,
    _FLAG,
    "Go on until the attempt has ended. It may be the one after the present: that is waited for.",
)
OFFSET = Parameter(
    "offset",
    partial(parse_count, most=_OFFSET_MAX),
    {"type": "integer", "minimum": 0, "maximum": _OFFSET_MAX},
    "Begin after so many bytes: of the stream, or of both together (frames' heads never count).",
)
TAIL = Parameter(
    "tail",
    partial(parse_count, most=_LINES_MAX),
    {"type": "integer", "minimum": 0, "maximum": _LINES_MAX},
    "Begin with the last so many lines.",
)
SINCE = Parameter(
    "since", _moment, _TEXT, "Begin with what came at this time (RFC 3339), or a duration ago."
)
ATTEMPT = Parameter(
    "attempt",
    partial(parse_count, least=1, most=1 << 31),
    {"type": "integer", "minimum": 1, "maximum": 1 << 31},
    "Of this run of the job; without, the last that has begun, or with follow the present one.",
)
TIMEOUT = Parameter("timeout", _seconds, _DURATION, "Answer after this duration in any case.")
FORCE = Parameter("force", _flag, _FLAG, "Kill it first.")
STATE = Parameter("state", _text, _TEXT, "Only jobs in this state.")
NAME = Parameter("name", _text, _TEXT, "Only jobs of this name.")
LIMIT = Parameter(
    "limit",
    partial(parse_count, least=1, most=1000),
    {"type": "integer", "minimum": 1, "maximum": 1000},
    "At most so many; 100 unless said.",
)
AFTER = Parameter("after", _text, _TEXT, "The `next` of the page before.")
JOB = Parameter("job", _text, _TEXT, "Only of this job: an id, the beginning of one, or a name.")
