"""What people write for quantities, turned into the kernel's integers, and back for people to read.

Each parser takes the field that the value was given for and the value as it was given, and returns
an integer (or the kernel's text for it) or raises BadValue naming the field. Nothing here guesses:
a value is what it says or it is refused. Numbers are read digit by digit into integers, so no value
passes through a float on its way to the kernel unless it came as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from resource import getpagesize
from typing import Literal, NamedTuple, TypeVar

from jobsup.isolation import RLIMITS, Rlimit

from .errors import BadValue

T = TypeVar("T")
Parser = Callable[[str, object], T]

# Above this the kernel turns a size into "max", which would be a limit silently missing.
SIZE_MAX = 1 << 62
PIDS_MAX = 1 << 22  # PID_MAX_LIMIT of 64-bit kernels; pids.max takes no more
_CPU_NUMBER_MAX = 8191  # CONFIG_NR_CPUS has no higher choice
_YEARS_100_USEC = 100 * 365 * 86_400 * 10**6
_LONGEST = 64  # characters; no quantity needs more, and int() grows with the square

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))?([KMGTP]?)(?:I?B)?")
_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?")
_COUNT = re.compile(r"[0-9]+")
_USEC = {"d": 86_400 * 10**6, "h": 3_600 * 10**6, "m": 60 * 10**6, "s": 10**6, "ms": 1000, "us": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _USEC))


def _text(field: str, value: object, what: str, remedy: str) -> str:
    """The value as text, if it is short and can be `what` at all."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST:
        return value
    raise BadValue(field, value, f"is not {what}", remedy)


def _scaled(whole: str, fraction: str | None, unit: int) -> tuple[int, bool]:
    """whole.fraction times `unit`, rounded down, and whether that was exact."""
    fraction = fraction or ""
    scale = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * unit, scale)
    return scaled, rest == 0


def _within(
    field: str, value: object, number: int, least: int, most: int, show: Callable[[int], str]
) -> int:
    if number < least:
        why = "must not be negative" if number < 0 else "is too small"
        raise BadValue(field, value, why, f"the least is {show(least)}")
    if number > most:
        raise BadValue(field, value, "is too large", f"the most is {show(most)}")
    return number


# ---- counts and sizes


def parse_count(field: str, value: object, least: int = 0, most: int = SIZE_MAX) -> int:
    """A whole number, as an int or in decimal digits."""
    remedy = f"a whole number from {least} to {most}"
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        text = _text(field, value, "a whole number", remedy)
        if not _COUNT.fullmatch(text):
            raise BadValue(field, value, "is not a whole number", remedy)
        number = int(text)
    if not least <= number <= most:
        raise BadValue(field, value, "is out of range", remedy)
    return number


def parse_size(field: str, value: object, least: int = 1) -> int:
    """Bytes: an int, or text such as "256M", "1.5G", "64KiB"; all units are powers of 1024."""
    remedy = "a number of bytes, or one with a unit: 512K, 256M, 1.5G"
    if isinstance(value, int) and not isinstance(value, bool):
        return _within(field, value, value, least, SIZE_MAX, format_size)
    match = _SIZE.fullmatch(_text(field, value, "a size", remedy).upper())
    if match is None or not str(value).isascii():
        raise BadValue(field, value, "is not a size", remedy)
    whole, fraction, unit = match.groups()
    number, exact = _scaled(whole, fraction, _SIZE_UNITS[unit])
    if not exact and not unit:
        raise BadValue(field, value, "is not a whole number of bytes", remedy)
    return _within(field, value, number, least, SIZE_MAX, format_size)


def parse_memory(field: str, value: object) -> int:
    """As parse_size, of at least one page: the kernel rounds down to whole ones."""
    return parse_size(field, value, getpagesize())


def or_max(parser: Parser[T]) -> Parser[T | Literal["max"]]:
    """A parser that also takes "max", which is no limit."""

    def parse(field: str, value: object) -> T | Literal["max"]:
        if value == "max":
            return "max"
        try:
            return parser(field, value)
        except BadValue as error:
            remedy = f"{error.remedy}, or max" if error.remedy else "or max"
            raise BadValue(field, value, error.why, remedy) from None

    return parse


def parse_memory_low(field: str, value: object) -> int:
    """As parse_memory, or zero for none."""
    size = parse_size(field, value, 0)
    return parse_memory(field, value) if size else 0


parse_memory_or_max = or_max(parse_memory)
parse_swap = or_max(partial(parse_size, least=0))
parse_rate = or_max(parse_size)


def parse_output_max(field: str, value: object) -> int:
    """As parse_size; zero is no output at all."""
    return parse_size(field, value, 0)


# What pids.max takes: a count of processes and threads, or "max".
parse_pids = or_max(partial(parse_count, least=1, most=PIDS_MAX))


def parse_weight(field: str, value: object) -> int:
    """A cgroup weight; 100 is everybody's."""
    return parse_count(field, value, 1, 10_000)


# ---- times and processors


def _micro(field: str, value: object, what: str, remedy: str) -> int:
    """A plain number, text or float, in millionths, rounded up (so that no number vanishes)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 10**6
    if isinstance(value, float) and math.isfinite(value * 10**6):
        return math.ceil(round(value * 10**6, 3))
    match = _NUMBER.fullmatch(_text(field, value, what, remedy))
    if match is None:
        raise BadValue(field, value, f"is not {what}", remedy)
    number, exact = _scaled(match[1], match[2], 10**6)
    return number if exact else number + 1


def parse_duration(field: str, value: object, least: int = 1) -> int:
    """Microseconds: plain numbers are seconds; text may carry units ("1h30m", "1.5s", "500ms").

    Units stand in falling order, each once.
    """
    what, remedy = "a duration", "seconds, or a number with units: 500ms, 90s, 1h30m, 1d"
    text = value if isinstance(value, str) and len(value) <= _LONGEST else ""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        usec = _micro(field, value, what, remedy)
    else:
        usec = 0
        for number, unit in zip(match.groups(), _USEC.values(), strict=True):
            whole, _, fraction = (number or "0").partition(".")
            scaled, exact = _scaled(whole, fraction, unit)
            usec += scaled if exact else scaled + 1
    return _within(field, value, usec, least, _YEARS_100_USEC, format_duration)


def parse_grace(field: str, value: object) -> int:
    """As parse_duration; zero is no grace at all."""
    return parse_duration(field, value, 0)


class CpuMax(NamedTuple):
    """A share of the processors as cpu.max writes it."""

    quota_usec: int
    period_usec: int

    def __str__(self) -> str:
        return f"{self.quota_usec} {self.period_usec}"


def parse_cpus(field: str, value: object) -> CpuMax:
    """How many processors' worth of time, 0.001 to 8192; fractions are a share of one."""
    millionths = _micro(field, value, "a number of CPUs", "a number such as 0.5, 1 or 2.5")
    if not 1000 <= millionths <= 8192 * 10**6:
        raise BadValue(field, value, "is out of range", "a number from 0.001 to 8192")
    # The kernel takes no quota below a millisecond; a longer period makes room for a small share.
    period = 100_000 if millionths >= 10_000 else 1_000_000
    return CpuMax(millionths * period // 10**6, period)


parse_cpus_or_max = or_max(parse_cpus)


def parse_cpuset(field: str, value: object) -> str:
    """Processor numbers such as "0-3,8", as the kernel prints them back: sorted and merged."""
    remedy = "processor numbers and ranges: 0-3,8"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(parse_count(field, value, 0, _CPU_NUMBER_MAX))
    if not isinstance(value, str) or not 0 < len(value) <= 4096:
        raise BadValue(field, value, "is not a list of processors", remedy)
    numbers: set[int] = set()
    for part in value.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise BadValue(field, value, "is not a list of processors", remedy)
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= _CPU_NUMBER_MAX:
            raise BadValue(field, value, f"has an impossible range: {part}", remedy)
        numbers.update(range(first, last + 1))
    return ",".join(_ranges(sorted(numbers)))


def _ranges(numbers: list[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


# ---- rlimits

_INFINITY = -1  # of isolation's Rlimit
_NOFILE_LEAST = 8  # the standard streams, what an interpreter and its libraries open, and some
_RLIMIT_SIZES = frozenset({"as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"})


def parse_rlimit(field: str, value: object) -> Rlimit:
    """One "NAME=SOFT[:HARD]": "nofile=1024:4096", "core=0", "stack=unlimited"."""
    remedy = "NAME=SOFT[:HARD], such as nofile=1024:4096, core=0, stack=unlimited"
    name, equals, amounts = _text(field, value, "a resource limit", remedy).partition("=")
    if not equals:
        raise BadValue(field, value, "is not a resource limit", remedy)
    if name not in RLIMITS:
        raise BadValue(field, value, "names no resource", f"one of {', '.join(sorted(RLIMITS))}")
    soft, colon, hard = amounts.partition(":")
    limit = Rlimit(
        RLIMITS[name],
        _rlimit_amount(field, value, name, soft),
        _rlimit_amount(field, value, name, hard if colon else soft),
    )
    if limit.hard != _INFINITY and not 0 <= limit.soft <= limit.hard:
        raise BadValue(field, value, "has a soft limit above the hard one", remedy)
    if name == "nofile" and 0 <= limit.soft < _NOFILE_LEAST:
        why = "leaves too few descriptors to start a program"
        raise BadValue(field, value, why, f"the least is nofile={_NOFILE_LEAST}")
    return limit


def _rlimit_amount(field: str, value: object, name: str, amount: str) -> int:
    if amount in ("unlimited", "infinity"):
        return _INFINITY
    try:
        if name in _RLIMIT_SIZES:
            return parse_size(field, amount, 0)
        return parse_count(field, amount)
    except BadValue as error:
        raise BadValue(field, value, f"has no amount for {name}", error.hint) from None


# ---- for people


def format_size(size: int, *, exact: bool = True) -> str:
    """A size to read: 268435456 is "256M".

    Exact sizes come with the largest unit that keeps them whole, so that they can be typed back;
    otherwise with one decimal and the largest unit that fits ("256.0M"), as measurements are shown.
    """
    units = [(name, unit) for name, unit in reversed(_SIZE_UNITS.items()) if unit <= max(size, 1)]
    if exact:
        name, unit = next((name, unit) for name, unit in units if size % unit == 0)
        return f"{size // unit}{name}"
    name, unit = units[0]
    return f"{size / unit:.1f}{name}" if name else str(size)


def format_duration(usec: int) -> str:
    """A duration to read, which parse_duration takes back: 5_400_000_000 is "1h30m"."""
    parts = []
    for name, unit in _USEC.items():
        amount, usec = divmod(usec, unit)
        if amount:
            parts.append(f"{amount}{name}")
    return "".join(parts) or "0s"
