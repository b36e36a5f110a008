"""Times of day as people write them, and cron expressions.

A time without a zone is local: that of TZ where it is set, else that of the host. In an hour that
is skipped when clocks are put forward, it is the time that the old clock would show; in one that
comes twice, the first. Nanoseconds of CLOCK_REALTIME here and in the records.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from .errors import BadValue

if TYPE_CHECKING:
    from datetime import tzinfo

_SECOND = 10**9
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]{1,9}))?"
    r"(Z|z|[+-][0-9]{2}:[0-9]{2})?"
)
_FIRST_YEAR, _LAST_YEAR = 1970, 2200  # what 63 bits of nanoseconds hold, with room
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
NEVER = 1 << 62  # the year 2116: after all that anybody waits for


def parse_at(field: str, value: object) -> int:
    """A time as RFC 3339 has it ("2026-12-01T02:00:00Z"), of which seconds and zone may be left
    out."""
    from datetime import datetime  # a job at once needs none

    remedy = "such as 2026-12-01T02:00, or 2026-12-01T02:00:00Z"
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValue(field, value, "is not a time", remedy)
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{(zone or '').upper()}")
    except ValueError:
        raise BadValue(field, value, "is no time that there is", remedy) from None
    if not _FIRST_YEAR < moment.year < _LAST_YEAR:
        why = f"is not between the years {_FIRST_YEAR} and {_LAST_YEAR}"
        raise BadValue(field, value, why, remedy)
    # Of a local time, timestamp() asks mktime(3); whole seconds are exact in a float.
    return int(moment.timestamp()) * _SECOND + int((fraction or "").ljust(9, "0"))


def format_at(ns: int) -> str:
    """A time as RFC 3339 in UTC, exactly; parse_at takes it back."""
    seconds, rest = divmod(ns, _SECOND)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{rest:09d}".rstrip("0")
    return f"{stamp}{'.' if fraction else ''}{fraction}Z"


def parse_every(field: str, value: object) -> str:
    """A cron expression of five fields that comes at all, its words apart by one space."""
    remedy = 'minute, hour, day of the month, month, day of the week: "0 2 * * mon-fri"'
    if not isinstance(value, str) or not value.isascii() or len(value) > 128:
        raise BadValue(field, value, "is not a cron expression", remedy)
    words = value.split()
    if words and words[0].startswith("@"):
        instead = _NICKNAMES.get(words[0])
        says = f'"{instead}" says it' if instead else remedy
        raise BadValue(field, value, "is a nickname, and cron's five fields are wanted", says)
    if len(words) != 5:
        raise BadValue(field, value, f"has {len(words)} fields, and cron has five", remedy)
    cron = " ".join(words)
    try:
        first = next_time(cron, time.time_ns())
    except ValueError as error:
        raise BadValue(field, value, f"is not a cron expression: {error}", remedy) from None
    if first == NEVER:
        raise BadValue(field, value, "never comes", remedy)
    return cron


def next_time(cron: str, after_ns: int, zone: tzinfo | None = None) -> int:
    """When the expression next matches after this time, by the clock of `zone` or the local one;
    NEVER when it does not within fifty years.

    As Debian's cron has it when clocks are changed: what falls into the hour that is skipped comes
    right after it, and what falls into the one that comes twice comes once, unless it comes every
    hour or minute anyway.

    Raises:
        ValueError: it is no cron expression.
    """
    from datetime import datetime

    from cronsim import CronSim, CronSimError

    start = datetime.fromtimestamp(after_ns // _SECOND, zone or local_zone())
    try:
        matches = CronSim(cron, start)
    except CronSimError as error:
        raise ValueError(str(error).lower()) from None
    for moment in matches:
        # In the hour that comes twice, a match may be the one of its first time.
        if (found := int(moment.timestamp()) * _SECOND) > after_ns:
            return found
    return NEVER


def local_zone() -> tzinfo:
    """The zone of this process with its rules, not only what its clock shows now."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    name = os.environ.get("TZ", "").removeprefix(":") or "/etc/localtime"
    try:
        if not name.startswith("/"):
            return ZoneInfo(name)
        with open(name, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, KeyError):
        # A rule in the text of TZ itself, or no zones on this host.
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        return zone
