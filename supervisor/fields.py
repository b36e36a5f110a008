"""Parsers for the fields of a spec that are not quantities: names, paths, lists, ids.

As in `units`: a field and a value as it was given go in, a checked value comes out, or BadValue.
Nothing here looks at the host; whether a path or a user exists is found out when the job is made.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Literal

from jobsup.isolation import CAPABILITIES, Bind, IoLimit, Rlimit, Scratch

from .errors import BadValue
from .units import Parser, T, or_max, parse_count, parse_rate, parse_rlimit, parse_size

ID_MAX = 2**32 - 2  # 2**32-1 is the kernel's "no id"
ARGUMENT_MAX = 128 * 1024  # MAX_ARG_STRLEN, with the final NUL
_PATH_MAX = 4096  # with the final NUL

# Magic links lead out of the job's root whatever stands in their way (CVE-2024-21626).
_MAGIC = re.compile(
    rb"/(?:proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:fd|cwd|root|exe|map_files|ns)"
    rb"|dev/(?:fd|stdin|stdout|stderr))(?:/|\Z)"
)


# ---- text


def parse_name(field: str, value: object) -> str:
    """A name for people: data, never a path or an id."""
    return _matching(field, value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a name")


def parse_hostname(field: str, value: object) -> str:
    """A host name of at most 64 characters."""
    return _matching(field, value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a host name")


def _matching(field: str, value: object, pattern: str, what: str) -> str:
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    remedy = "1 to 64 letters, digits, '.', '_' and '-', the first a letter or a digit"
    raise BadValue(field, value, f"is not {what}", remedy)


def choice(*choices: str) -> Parser[str]:
    """A parser that takes one of these words."""

    def parse(field: str, value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise BadValue(field, value, "is not a choice", f"one of {', '.join(choices)}")

    return parse


def parse_flag(field: str, value: object) -> bool:
    """True or False, and nothing that merely behaves like them."""
    if isinstance(value, bool):
        return value
    raise BadValue(field, value, "is neither True nor False")


def parse_oom_score_adj(field: str, value: object) -> int:
    """How the kernel's out-of-memory killer sees the job beside the host's other processes."""
    number = 1001
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,4}", value):
        number = int(value)
    if -1000 <= number <= 1000:
        return number
    raise BadValue(field, value, "is not a score", "a whole number from -1000 to 1000")


# ---- lists


def each(parser: Callable[[str, object], T]) -> Parser[tuple[T, ...]]:
    """A parser for a list whose elements `parser` takes; one bare element is a list of one."""

    def parse(field: str, value: object) -> tuple[T, ...]:
        return tuple(parser(field, element) for element in elements(field, value))

    return parse


def elements(field: str, value: object) -> list[object]:
    """The elements of a list, a tuple or another iterable; text, a path or a mapping is one."""
    if isinstance(value, str | bytes | os.PathLike | Mapping):
        return [value]
    if isinstance(value, Iterable):
        return list(value)
    raise BadValue(field, value, "is not a list")


def words(field: str, value: object) -> list[str]:
    """The words of a list whose elements may themselves be comma-separated."""
    found = []
    for element in elements(field, value):
        if isinstance(element, str):
            found += element.split(",")
        elif isinstance(element, int) and not isinstance(element, bool):
            found.append(str(parse_id(field, element)))
        else:
            raise BadValue(field, element, "is not a name")
    return found


# ---- bytes and paths


def parse_bytes(field: str, value: object) -> bytes:
    """An argument as the kernel takes it: text (with Python's surrogates), bytes or a path."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise BadValue(field, value, "is not text, bytes or a path")
    try:
        raw = os.fsencode(value)
    except (UnicodeEncodeError, TypeError):
        raise BadValue(field, value, "cannot be encoded") from None
    if b"\0" in raw:
        raise BadValue(field, value, "has a NUL byte in it")
    if len(raw) >= ARGUMENT_MAX:
        raise BadValue(
            field,
            value,
            f"is {len(raw)} bytes long: {os.strerror(errno.E2BIG)}",
            "the most is 131071 bytes",
        )
    return raw


def parse_path(field: str, value: object) -> bytes:
    """A path made absolute from the caller's directory, without "." and ".."; no link followed."""
    raw = parse_bytes(field, value)
    if not raw:
        raise BadValue(field, value, "is not a path")
    path = raw if raw.startswith(b"/") else b"%b/%b" % (caller_directory(field, value), raw)
    path = b"/" + os.path.normpath(path).lstrip(b"/")
    if _MAGIC.match(path):
        raise BadValue(field, value, "leads through a process's own descriptors")
    if len(path) >= _PATH_MAX:
        raise BadValue(field, value, "is too long a path")
    return path


# Whether who asks stands somewhere that this process knows.
_placed = ContextVar("placed", default=True)


@contextmanager
def from_elsewhere() -> Iterator[None]:
    """Parse for somebody in another process: their directory is not ours, so paths must be
    absolute."""
    token = _placed.set(False)
    try:
        yield
    finally:
        _placed.reset(token)


def caller_directory(field: str, value: object) -> bytes:
    """Where the caller stands."""
    if not _placed.get():
        raise BadValue(field, value, "is not an absolute path", "begin it with /")
    try:
        here = os.getcwdb()
    except OSError:
        here = b""
    # The kernel says "(unreachable)/…" for a directory outside our root.
    if not here.startswith(b"/"):
        why = "cannot be placed: the current directory is gone"
        raise BadValue(field, value, why, "cd to a directory that exists")
    return here


def _two_parts(raw: bytes) -> tuple[bytes, bytes | None]:
    r"""Parts at the last unescaped colon; a colon that belongs to a path is written "\:"."""
    found = re.fullmatch(rb"(.*)(?<!\\):(.*)", raw, re.DOTALL)
    parts = found.groups() if found else (raw, None)
    left, right = (part and part.replace(rb"\:", b":") for part in parts)
    return left or b"", right


def bind(*, writable: bool) -> Parser[Bind]:
    """A parser for PATH, SRC:DST or a pair of them; SRC from the caller's directory, DST inside.

    In JSON the pair is {"source": …, "target": …}.
    """

    def parse(field: str, value: object) -> Bind:
        if isinstance(value, Mapping):
            value = _members(field, value, "source", "target")
        if isinstance(value, tuple) and len(value) == 2:
            source, target = parse_path(field, value[0]), parse_bytes(field, value[1])
        else:
            left, right = _two_parts(parse_bytes(field, value))
            source = parse_path(field, left)
            target = source if right is None else right
        if not target.startswith(b"/"):
            raise BadValue(field, value, "has no absolute path inside the job", "PATH or SRC:/DST")
        return Bind(source, parse_path(field, target), writable)

    return parse


def parse_tmpfs(field: str, value: object) -> Scratch:
    """PATH or PATH:SIZE, inside the job; in JSON also {"target": PATH, "size": SIZE}."""
    size: object
    if isinstance(value, Mapping):
        target, size = _members(field, value, "target", "size")
        path = parse_bytes(field, target)
    else:
        path, text = _two_parts(parse_bytes(field, value))
        size = text and os.fsdecode(text)
    if not path.startswith(b"/"):
        raise BadValue(field, value, "is not an absolute path", "/PATH or /PATH:SIZE")
    place = parse_path(field, path)
    if place == b"/":
        raise BadValue(field, value, "cannot hide the whole root")
    if size is None:
        return Scratch(place)
    return Scratch(place, parse_size(field, size))


def _members(field: str, value: Mapping[object, object], *names: str) -> tuple[object, ...]:
    """The values of an object of exactly these names."""
    if set(value) != set(names):
        remedy = f"an object of {' and '.join(names)}"
        raise BadValue(field, value, "has other members than it may", remedy)
    return tuple(value[name] for name in names)


# ---- ids and capabilities


# A lone surrogate stands for a byte that is not UTF-8: no name of the host's has one.
_ID_NAME = re.compile(r"[^\s:,/\x00-\x1f\ud800-\udfff]{1,256}")


def parse_id(field: str, value: object) -> int | str:
    """A user or group: a number that the kernel takes for one, or a name to be looked up.

    Numbers are strict (CVE-2024-40635, CVE-2026-30892): what begins like one must be one.
    """
    remedy = f"a name, or a number from 0 to {ID_MAX}"
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif not isinstance(value, str) or not _ID_NAME.fullmatch(value):
        if field == "user" and isinstance(value, str) and ":" in value:
            remedy = "the group is an option of its own: {group=GROUP}"
        raise BadValue(field, value, "is neither a name nor an id", remedy)
    elif re.fullmatch(r"[0-9]{1,10}", value):
        number = int(value)
    elif re.match(r"[0-9+-]", value):
        raise BadValue(field, value, "is neither a name nor an id", remedy)
    else:
        return value
    if 0 <= number <= ID_MAX:
        return number
    raise BadValue(field, value, "is not an id", remedy)


def parse_groups(field: str, value: object) -> tuple[int | str, ...]:
    """Supplementary groups, by name or number; "none" alone for none."""
    names = words(field, value)
    return () if names == ["none"] else tuple(parse_id(field, name) for name in names)


def parse_capabilities(field: str, value: object) -> tuple[str, ...]:
    """Changes to the default set, in order: "none", "all", "NAME", "-NAME"; without CAP_."""
    changes = []
    for word in words(field, value):
        sign = "-" if word.startswith("-") else ""
        name = word.removeprefix("-").removeprefix("+").lower().removeprefix("cap_")
        if name not in CAPABILITIES and (sign or name not in ("none", "all")):
            remedy = nearest(name, CAPABILITIES) or "capabilities(7) has their names"
            raise BadValue(field, word, "is not a capability", remedy)
        changes.append(sign + name)
    return tuple(changes)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A question that names the known word that is most like this one, if one is like it at all."""
    from difflib import get_close_matches  # only on the way to an error

    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else None


# ---- mappings


def pairs(field: str, value: object) -> list[tuple[object, object]]:
    """(key, value) from a mapping, or from a list of "KEY=VALUE"; no "=" gives None."""
    if isinstance(value, Mapping):
        return list(value.items())
    found: list[tuple[object, object]] = []
    for element in elements(field, value):
        key, equals, amount = parse_bytes(field, element).partition(b"=")
        found.append((key, amount if equals else None))
    return found


def parse_environment(field: str, value: object) -> tuple[tuple[bytes, bytes | None], ...]:
    """Variables of the job; None takes the caller's value, if there is one. The last one wins."""
    found: dict[bytes, bytes | None] = {}
    for key, amount in pairs(field, value):
        name = parse_bytes(field, key)
        if not name or b"=" in name:
            raise BadValue(field, key, "is not a variable's name", "NAME or NAME=VALUE")
        found[name] = None if amount is None else parse_bytes(field, amount)
        if len(name) + len(found[name] or b"") + 1 >= ARGUMENT_MAX:
            raise BadValue(field, key, "is too long a variable", "the most is 131071 bytes")
    return tuple(found.items())


def parse_rlimits(field: str, value: object) -> tuple[Rlimit, ...]:
    """Resource limits, one a resource: a mapping or "NAME=SOFT[:HARD]" each."""
    found: dict[int, Rlimit] = {}
    for element in _joined(field, value):
        limit = parse_rlimit(field, element)
        if limit.resource in found:
            raise BadValue(field, element, "is limited twice")
        found[limit.resource] = limit
    return tuple(found.values())


def _joined(field: str, value: object) -> list[object]:
    """A mapping turned into "KEY=VALUE" texts; its values may be (soft, hard), a list in JSON."""
    if not isinstance(value, Mapping):
        return elements(field, value)
    found: list[object] = []
    for key, amount in value.items():
        parts = amount if isinstance(amount, tuple | list) else (amount,)
        if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
            raise BadValue(field, amount, "is not a resource limit")
        try:
            found.append(f"{key}={':'.join(map(str, parts))}")
        except ValueError:  # an integer too long to print
            raise BadValue(field, amount, "is too large") from None
    return found


# ---- the leaf's files

_KNOB = re.compile(r"[a-z]+(?:\.[A-Za-z0-9_-]+)+")
_OWN_KNOBS = {  # of cgroup.*, only these are limits; the others move or mend what is jobsup's
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
}


def parse_knobs(field: str, value: object) -> tuple[tuple[str, str], ...]:
    """Other files of the leaf, KEY=VALUE, as the kernel names and takes them."""
    found: dict[str, str] = {}
    for key, amount in pairs(field, value):
        name = os.fsdecode(parse_bytes(field, key))
        if not _KNOB.fullmatch(name):
            raise BadValue(field, name, "is not a cgroup file", "such as memory.zswap.max=0")
        if name.startswith("cgroup.") and name not in _OWN_KNOBS:
            raise BadValue(field, name, "is not a limit: jobsup itself needs it")
        if isinstance(amount, int) and not isinstance(amount, bool):
            amount = str(parse_count(field, amount, 0, 2**64 - 1))
        text = "" if amount is None else os.fsdecode(parse_bytes(field, amount))
        if not text or "\n" in text or len(text) >= 4096 or not text.isascii():
            raise BadValue(field, f"{name}={text}", "has no value for one line", "KEY=VALUE")
        if name in found:
            raise BadValue(field, name, "is given twice")
        found[name] = text
    return tuple(found.items())


def parse_io_limit(field: str, value: object) -> IoLimit:
    """PATH|DEV:KEY=RATE,…; DEV is a device's path or MAJ:MIN. Rates are per second, or "max"."""
    remedy = "PATH:rbps=…,wbps=…,riops=…,wiops=…, such as /srv:wbps=10M"
    raw = parse_bytes(field, value)
    target, colon, rates = raw.rpartition(b":")
    if not target or not colon or b"=" not in rates:
        raise BadValue(field, value, "is not an I/O limit", remedy)
    if not re.fullmatch(rb"[0-9]+:[0-9]+", target):
        target = parse_path(field, target)
    found: dict[str, int | Literal["max"]] = {}
    for part in os.fsdecode(rates).split(","):
        key, _, rate = part.partition("=")
        if key not in ("rbps", "wbps", "riops", "wiops") or key in found:
            raise BadValue(field, value, f"has no use for {part!r}", remedy)
        found[key] = _rate(field, key, rate)
    return IoLimit(target, **found)


_parse_operations = or_max(partial(parse_count, least=1, most=2**32 - 2))


def _rate(field: str, key: str, rate: str) -> int | Literal["max"]:
    return (_parse_operations if key.endswith("iops") else parse_rate)(field, rate)
