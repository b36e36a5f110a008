"""What a daemon was started with: where it keeps things, and how much it lets its users have."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import BadValue
from ..units import parse_count, parse_cpus, parse_duration, parse_memory, parse_size

LIB = Path("/var/lib/jobsup")
RUN = Path("/run/jobsup")
_WEEK_USEC = 7 * 86_400 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes are bytes, times microseconds; None is no limit. What begins with owner_ is of each
    uid but root's."""

    lib: Path = LIB  # what must outlive a boot
    run: Path = RUN  # what need not
    socket: Path = RUN / "jobsup.sock"

    # admission: how many live jobs at once, and what they may ask for together
    max_running: int | None = None
    memory: int | None = None
    cpus: float | None = None

    keep_usec: int = _WEEK_USEC  # how long the records and output of ended jobs stay

    owner_jobs: int = 1000  # unfinished ones
    owner_bytes: int = 10 << 30  # of kept output
    owner_followers: int = 64

    connections: int = 2000
    body_max: int = 1 << 20
    stdin_max: int = 1 << 30
    header_seconds: float = 10.0

    @classmethod
    def make(
        cls,
        *,
        state: str | os.PathLike[str] | None = None,
        socket: str | os.PathLike[str] | None = None,
        **options: object,
    ) -> Settings:
        """From what `jobsup serve` was given; None stands for the default.

        Args:
            state: a directory that lib and run then lie in.
            options: max_running, memory, cpus, keep (a duration), owner_jobs, owner_bytes,
                owner_followers, connections, stdin_max.

        Raises:
            BadValue: naming what cannot be.
        """
        lib, run = LIB, RUN
        if state is not None:
            lib, run = _absolute(state) / "lib", _absolute(state) / "run"
        given: dict[str, Any] = {}
        for option, value in options.items():
            if option not in _PARSERS:
                raise BadValue(option, value, "is for no setting of a daemon")
            if value is not None:
                name = "keep_usec" if option == "keep" else option
                given[name] = _PARSERS[option](option, value)
        path = run / "jobsup.sock" if socket is None else _absolute(socket)
        return cls(lib=lib, run=run, socket=path, **given)


def _absolute(path: str | os.PathLike[str]) -> Path:
    # Not resolved: a socket is where it was said to be, also when that is a link.
    return Path(path).absolute()


def _cpus(field: str, value: object) -> float:
    share = parse_cpus(field, value)
    return share.quota_usec / share.period_usec


_PARSERS: dict[str, Callable[[str, object], object]] = {
    "max_running": partial(parse_count, least=1),
    "memory": parse_memory,
    "cpus": _cpus,
    "keep": partial(parse_duration, least=0),
    "owner_jobs": parse_count,
    "owner_bytes": partial(parse_size, least=0),
    "owner_followers": parse_count,
    "connections": partial(parse_count, least=1),
    "stdin_max": partial(parse_size, least=0),
}
