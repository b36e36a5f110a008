"""What was asked of one job: a frozen Spec, checked once, at the door.

`Spec.make` takes the options as people give them, on the command line or in Python: texts, numbers,
lists. The class below is the table of them: each field has its type, its parser and its default,
and stands for one option of the same name. (The annotations are read when the module is imported,
so they must not be postponed.) Whoever holds a Spec need not check it again. What only the host
can answer (is there such a user, such a device) is asked in `translate` and in isolation.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_origin

from jobsup.isolation import Bind, IoLimit, Rlimit, Scratch

from . import fields, units
from .errors import BadValue
from .units import CpuMax, Parser

PIDS_DEFAULT = 4096
GRACE_DEFAULT_USEC = 5 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One job's request. Sizes are bytes, times microseconds, paths absolute, arguments bytes.

    None means that nothing was asked: the default, or no limit. "max" is no limit, asked for:
    what `jobsup set` lifts one by.
    """

    argv: tuple[bytes, ...]
    name: Annotated[str | None, fields.parse_name] = None

    # memory, processors, processes, devices
    mem: Annotated[int | Literal["max"] | None, units.parse_memory_or_max] = None
    mem_high: Annotated[int | Literal["max"] | None, units.parse_memory_or_max] = None
    mem_low: Annotated[int | None, units.parse_memory_low] = None
    swap: Annotated[int | Literal["max"] | None, units.parse_swap] = None
    oom_group: Annotated[bool, fields.parse_flag] = True
    cpus: Annotated[CpuMax | Literal["max"] | None, units.parse_cpus_or_max] = None
    cpu_weight: Annotated[int | None, units.parse_weight] = None
    cpuset: Annotated[str | None, units.parse_cpuset] = None
    pids: Annotated[int | Literal["max"], units.parse_pids] = PIDS_DEFAULT
    io_max: Annotated[tuple[IoLimit, ...], fields.each(fields.parse_io_limit)] = ()
    io_weight: Annotated[int | None, units.parse_weight] = None
    cgroup: Annotated[tuple[tuple[str, str], ...], fields.parse_knobs] = ()

    # files
    rw: Annotated[tuple[Bind, ...], fields.each(fields.bind(writable=True))] = ()
    ro: Annotated[tuple[Bind, ...], fields.each(fields.bind(writable=False))] = ()
    tmpfs: Annotated[tuple[Scratch, ...], fields.each(fields.parse_tmpfs)] = ()
    root: Annotated[bytes, fields.parse_path] = b"/"
    cwd: Annotated[bytes, fields.parse_path] = b"/"

    # network
    net: Annotated[Literal["none", "host"], fields.choice("none", "host")] = "none"
    hostname: Annotated[str, fields.parse_hostname] = "job"

    # identity
    user: Annotated[int | str | None, fields.parse_id] = None
    group: Annotated[int | str | None, fields.parse_id] = None
    groups: Annotated[tuple[int | str, ...] | None, fields.parse_groups] = None
    cap: Annotated[tuple[str, ...], fields.parse_capabilities] = ()

    # the process
    env: Annotated[tuple[tuple[bytes, bytes | None], ...], fields.parse_environment] = ()
    inherit_env: Annotated[bool, fields.parse_flag] = False
    rlimit: Annotated[tuple[Rlimit, ...], fields.parse_rlimits] = ()
    oom_score_adj: Annotated[int, fields.parse_oom_score_adj] = 0

    # time and output
    time: Annotated[int | None, units.parse_duration] = None
    cpu_time: Annotated[int | None, units.parse_duration] = None
    grace: Annotated[int, units.parse_grace] = GRACE_DEFAULT_USEC
    output_max: Annotated[int | None, units.parse_output_max] = None
    output_full: Annotated[
        Literal["drop", "kill", "block"], fields.choice("drop", "kill", "block")
    ] = "drop"
    merge: Annotated[bool, fields.parse_flag] = False

    @classmethod
    def make(cls, /, argv: Sequence[object], **options: object) -> Self:
        """Check everything that was given; None for an option stands for its default.

        Raises:
            BadValue: naming the first field that cannot be.
        """
        parsed: dict[str, Any] = {"argv": _parse_argv(argv, shell=bool(options.get("shell")))}
        for option, value in options.items():
            parser = _PARSERS.get(option)
            if parser is None:
                remedy = _SHELL if option == "shell" else fields.nearest(option, _PARSERS)
                raise BadValue(option, value, "is for no option of a job", remedy)
            if value is not None:
                parsed[option] = parser(option, value)
        parsed["cwd"] = _working_directory(parsed.get("cwd"), parsed.get("root", b"/"))
        spec = cls(**parsed)
        _check_memory(spec)
        _check_knobs(spec, parsed)
        _check_files(spec, parsed)
        return spec


_PARSERS: dict[str, Parser[Any]] = {
    field.name: field.type.__metadata__[0]  # type: ignore[union-attr]
    for field in dataclasses.fields(Spec)
    if get_origin(field.type) is Annotated
}


_SHELL = '["sh", "-c", "…"] runs a shell'


def _parse_argv(argv: Sequence[object], *, shell: bool) -> tuple[bytes, ...]:
    if isinstance(argv, str | bytes) or not isinstance(argv, Sequence):
        remedy = _listed(argv, shell) if isinstance(argv, str) else '["ls", "-l"]'
        raise BadValue("argv", argv, "is not a list of arguments", remedy)
    # An empty argv becomes a program that reads its environment as arguments (CVE-2021-4034).
    if not argv:
        raise BadValue("argv", argv, "is empty", "give a command to run")
    parsed = tuple(fields.parse_bytes("argv", argument) for argument in argv)
    if not parsed[0]:
        raise BadValue("argv", parsed[0], "is no command")
    return parsed


def _listed(line: str, shell: bool) -> str:
    """A command line as the list that runs it, with a shell where only a shell understands it."""
    if len(line) > 60 or not line.isprintable() or set('"\\') & set(line):
        return _SHELL
    shell = shell or bool(set("|&;<>()$`'*?[]#~={}!") & set(line))
    listed = ["sh", "-c", line] if shell else line.split() or ["ls"]
    return "[" + ", ".join([f'"{word}"' for word in listed]) + "]"


def _working_directory(asked: bytes | None, root: bytes) -> bytes:
    """Inside the job: what was asked, else where the caller stands, which another root lacks."""
    if asked is not None:
        return asked
    if root != b"/":
        return b"/"
    return fields.parse_path("cwd", fields.caller_directory("cwd", "."))


def _check_memory(spec: Spec) -> None:
    """Levels of memory that contradict each other are refused, not silently without effect."""
    levels = [("mem_low", spec.mem_low), ("mem_high", spec.mem_high), ("mem", spec.mem)]
    said = [(field, size) for field, size in levels if isinstance(size, int)]
    for (lower, less), (upper, more) in pairwise(said):
        if less > more:
            why = f"is above {{{upper}}} ({units.format_size(more)}), so it would have no effect"
            raise BadValue(lower, units.format_size(less), why)


# What writes the same file of the leaf as an option of its own.
_KNOB_OPTIONS = {
    "memory.max": "mem",
    "memory.high": "mem_high",
    "memory.low": "mem_low",
    "memory.swap.max": "swap",
    "memory.oom.group": "oom_group",
    "cpu.max": "cpus",
    "cpu.weight": "cpu_weight",
    "cpuset.cpus": "cpuset",
    "pids.max": "pids",
    "io.max": "io_max",
    "io.weight": "io_weight",
}


def _check_knobs(spec: Spec, said: dict[str, Any]) -> None:
    for name, _ in spec.cgroup:
        option = _KNOB_OPTIONS.get(name)
        if option in said:
            raise BadValue("cgroup", name, f"is already set by {{{option}}}", "give one of the two")


_GRANTS = ("rw", "ro", "tmpfs")


def _check_files(spec: Spec, said: dict[str, Any]) -> None:
    """Each place in the job is given once, and its root only by what it consists of."""
    taken: dict[bytes, tuple[str, Bind | Scratch]] = {}
    # In the order of saying: of two that contradict each other, the later one is to blame.
    grants = [(field, each) for field in said if field in _GRANTS for each in said[field]]
    for field, grant in grants:
        other = taken.setdefault(grant.target, (field, grant))
        if other[1] != grant:
            raise BadValue(field, grant.target, f"is already given by {{{other[0]}}}")
        if isinstance(grant, Bind) and grant.target == b"/" and grant.source != spec.root:
            why = "cannot be /: it is not the root"
            raise BadValue(field, grant.source, why, "{root=DIR} makes it so")
