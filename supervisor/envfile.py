"""--env-file: variables of a job, one a line.

    # a comment, where it begins the line
    NAME=VALUE      the value is the rest of the line as it is: quotes, blanks and # belong to it
    NAME            the caller's value, where there is one

Blank lines count for nothing, nor do blanks in front of a name or a carriage return that ends a
line. There is no quoting, no escape, no continuation and no expansion, so that every line says
what it seems to say; these are the rules of Docker's files of the same name. (systemd's
EnvironmentFile= takes quotes off and joins lines.)
"""

from __future__ import annotations

import os
from typing import Any

from .errors import BadValue
from .fields import elements, pairs, parse_environment

_LONGEST = 16 << 20  # bytes; a device or a pipe without end is not an environment


def with_files(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a job with the variables of `env_file` (one or several) put before those of
    `env`, which win.

    Raises:
        BadValue: a file cannot be read, or a line of it; file and line are named.
    """
    options = dict(options)
    files = options.pop("env_file", None)
    if files is None:
        return options
    found: list[tuple[object, object]] = []
    for file in elements("env_file", files):
        found += read(file)
    env = options.get("env")
    own = [] if env is None else pairs("env", env)
    return options | {"env": dict(found + own)}


def read(path: Any) -> list[tuple[bytes, bytes | None]]:  # noqa: ANN401 - checked below
    """The variables of one file, in its order."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise BadValue("env_file", path, "is not a path")
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadValue("env_file", path, f"cannot be read: {why}") from None
    if len(content) > _LONGEST:
        raise BadValue("env_file", path, "is too long", f"the most is {_LONGEST} bytes")
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [
        variable
        for number, line in enumerate(lines, 1)
        for variable in _variables(f"{os.fsdecode(path)}:{number}", line.removesuffix(b"\r"))
    ]


def _variables(place: str, line: bytes) -> tuple[tuple[bytes, bytes | None], ...]:
    """The variable of one line, if it has one."""
    line = line.lstrip(b" \t")
    if not line or line.startswith(b"#"):
        return ()
    name = line.partition(b"=")[0]
    if any(blank in name for blank in b" \t\v\f"):
        raise BadValue("env_file", place, "has a blank in a variable's name", "NAME or NAME=VALUE")
    try:
        return parse_environment("env_file", line)
    except BadValue as error:
        raise BadValue("env_file", place, f"cannot be: {error.why}", error.remedy) from None
