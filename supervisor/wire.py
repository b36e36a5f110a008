"""A spec as JSON, and the options in JSON as Spec.make takes them.

    sizes        bytes                               268435456
    durations    seconds, or a text with units       90, "1s500ms"
    bytes        text where it is UTF-8              "/srv", {"base64": "L3Nydi//"}
    binds        as they are typed, or two paths     "/srv:/data", {"source": …, "target": …}
    tmpfs        likewise                            "/scratch:1048576", {"target": …, "size": …}
    variables    an object; null is the caller's     {"LANG": "C", "HOME": null}

What is written is canonical: every default is left out but `cwd`, whose default is another one
elsewhere. What is read may be all that a command line could say; who asks is not trusted, so
nothing is assumed of its types here, and Spec.make checks what comes out.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from jobsup.isolation import RLIMITS, Bind, IoLimit, Rlimit, Scratch

from .errors import BadValue
from .spec import Spec
from .units import CpuMax, format_duration

# ---- writing


def plain(spec: Spec) -> dict[str, Any]:
    """The spec as JSON values, such that Spec.make(**from_plain(plain(spec))) == spec."""
    told: dict[str, Any] = {"argv": _texts(spec.argv)}
    for field in dataclasses.fields(Spec):
        value = getattr(spec, field.name)
        if field.name != "argv" and (value != field.default or field.name == "cwd"):
            told[field.name] = _WRITERS.get(field.name, _as_it_is)(value)
    return told


def text_of(raw: bytes) -> str | dict[str, str]:
    """Bytes as a JSON value: a string where they are UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def variables(pairs: Iterable[tuple[bytes, bytes | None]]) -> Any:  # noqa: ANN401 - JSON
    """Variables as an object, or as a list of NAME=VALUE when a name is not UTF-8."""
    told: dict[str, Any] = {}
    pairs = tuple(pairs)
    for name, value in pairs:
        shown = text_of(name)
        if not isinstance(shown, str):
            return [text_of(n if v is None else n + b"=" + v) for n, v in pairs]
        told[shown] = None if value is None else text_of(value)
    return told


def seconds(usec: int) -> int | str:
    """A duration as a JSON value, exactly."""
    whole, rest = divmod(usec, 10**6)
    return format_duration(usec) if rest else whole


def _as_it_is(value: object) -> object:
    return value


def _texts(values: Iterable[bytes]) -> list[Any]:
    return [text_of(value) for value in values]


def _cpus(share: CpuMax | Literal["max"]) -> int | float | str:
    if share == "max":
        return share
    whole, rest = divmod(share.quota_usec, share.period_usec)
    return share.quota_usec / share.period_usec if rest else whole


def _typed(path: bytes) -> bool:
    """Whether a path can be typed beside another one without an escape."""
    return not set(b":\\") & set(path)


def _binds(binds: Iterable[Bind]) -> list[Any]:
    return [_bind(bind) for bind in binds]


def _bind(bind: Bind) -> object:
    if _typed(bind.source) and _typed(bind.target):
        same = bind.source == bind.target
        return text_of(bind.source if same else bind.source + b":" + bind.target)
    return {"source": text_of(bind.source), "target": text_of(bind.target)}


def _scratches(scratches: Iterable[Scratch]) -> list[Any]:
    return [
        text_of(b"%b:%d" % scratch)
        if _typed(scratch.target)
        else {"target": text_of(scratch.target), "size": scratch.size}
        for scratch in scratches
    ]


def _io_limits(limits: Iterable[IoLimit]) -> list[Any]:
    found = []
    for limit in limits:
        rates = {rate: getattr(limit, rate) for rate in ("rbps", "wbps", "riops", "wiops")}
        said = [f"{rate}={amount}" for rate, amount in rates.items() if amount is not None]
        found.append(text_of(limit.target + b":" + ",".join(said).encode()))
    return found


_RLIMIT_NAMES = {number: name for name, number in RLIMITS.items()}


def _rlimits(limits: Iterable[Rlimit]) -> dict[str, str]:
    return {
        _RLIMIT_NAMES[limit.resource]: ":".join(
            "unlimited" if amount == -1 else str(amount) for amount in (limit.soft, limit.hard)
        )
        for limit in limits
    }


_WRITERS: dict[str, Callable[[Any], object]] = {
    "cpus": _cpus,
    "io_max": _io_limits,
    "cgroup": dict,
    "rw": _binds,
    "ro": _binds,
    "tmpfs": _scratches,
    "root": text_of,
    "cwd": text_of,
    "groups": list,
    "cap": list,
    "env": variables,
    "rlimit": _rlimits,
    "time": seconds,
    "cpu_time": seconds,
    "grace": seconds,
}


# ---- reading

_FIELD = re.compile(r"[a-z][a-z_]{0,31}")


def from_plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with bytes in the place of what stands for bytes; "argv" is one of them.

    Raises:
        BadValue: naming the option that is neither text nor base64.
    """
    for name in options:
        # A field is named in messages and logs: a stranger's text is not taken for one.
        if not _FIELD.fullmatch(name):
            raise BadValue("request", name, "is for no option of a job")
    return {
        name: _READERS[name](name, value) if name in _READERS else value
        for name, value in options.items()
    }


def bytes_of(field: str, value: object) -> object:
    """What stands for bytes as bytes; what cannot is left for its parser to refuse."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            remedy = 'bytes are {"base64": "…"}'
            raise BadValue(field, value, "has a lone surrogate in it", remedy) from None
    if isinstance(value, Mapping) and value.keys() == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise BadValue(field, value["base64"], "is not base64") from None
    return value


def variables_of(field: str, value: object) -> object:
    """What `variables` wrote, or a list of NAME=VALUE."""
    if isinstance(value, Mapping):
        return {bytes_of(field, key): bytes_of(field, amount) for key, amount in value.items()}
    return _each(field, value)


def _each(field: str, value: object) -> object:
    if isinstance(value, list):
        return [bytes_of(field, element) for element in value]
    return bytes_of(field, value)


def _grants(field: str, value: object) -> object:
    if isinstance(value, list):
        return [_grant(field, element) for element in value]
    return _grant(field, value)


def _grant(field: str, value: object) -> object:
    if isinstance(value, Mapping) and "target" in value:
        return {name: bytes_of(field, member) for name, member in value.items()}
    return bytes_of(field, value)


_READERS: dict[str, Callable[[str, object], object]] = {
    "argv": _each,
    "io_max": _each,
    "rw": _grants,
    "ro": _grants,
    "tmpfs": _grants,
    "root": bytes_of,
    "cwd": bytes_of,
    "env": variables_of,
}
