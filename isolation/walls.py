"""What the walls of one job are to be: plain values, the input of `plan.compile_plan`.

Everything here was checked by whoever made it; nothing in isolation parses what a user typed.
Named tuples, because a command defines all of them for one job, and a dataclass takes ten times as
long to define.
Paths and arguments are bytes, as the kernel sees them, and absolute.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple

MIB = 1 << 20
GIB = 1 << 30


class Bind(NamedTuple):
    """A host file or directory at `target` in the job, with everything mounted below it."""

    source: bytes
    target: bytes
    writable: bool = False


class Scratch(NamedTuple):
    """An empty tmpfs at `target`; `size` in bytes, charged to the job that fills it."""

    target: bytes
    size: int = GIB


class Files(NamedTuple):
    """The file tree of a job.

    `root` is the host directory that becomes /, read-only with all that is mounted below it.
    `grants` open or add to it; where two nest, the deeper target wins. `hidden` are host
    directories that no grant may reveal (jobsup's own state). `cwd` is inside the job.
    `resolve_as`: whose paths these are, when it is not root who named them; they are found with the
    ids and groups of that user and without capabilities.
    """

    root: bytes = b"/"
    grants: tuple[Bind | Scratch, ...] = ()
    hidden: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    scratch_size: int = GIB
    resolve_as: Identity | None = None


class Identity(NamedTuple):
    """Who the workload is. `capabilities` are its bounding, permitted and effective sets
    (lower-case names without cap_); the inheritable and ambient sets are always empty."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset()


class Rlimit(NamedTuple):
    """One setrlimit(2): `resource` is resource.RLIMIT_*; -1 is RLIM_INFINITY."""

    resource: int
    soft: int
    hard: int


class Program(NamedTuple):
    """What is executed. `candidates` are the paths to try in order, as execvp(3) would: one for
    a command with a slash, one a directory of PATH for a bare name."""

    argv: tuple[bytes, ...]
    candidates: tuple[bytes, ...]
    environment: tuple[tuple[bytes, bytes], ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int = 0
    umask: int = 0o022


class WhenFull(IntEnum):
    """What happens at the output cap."""

    DROP = 0
    KILL = 1
    BLOCK = 2


class Watch(NamedTuple):
    """What the init enforces by itself. None: no limit. Times in milliseconds, CPU time in
    microseconds of the whole leaf, output in bytes of both streams together."""

    wall_ms: int | None = None
    cpu_usec: int | None = None
    grace_ms: int = 5_000
    output_max: int | None = None
    when_full: WhenFull = WhenFull.DROP


class Walls(NamedTuple):
    """All of one job's walls. `merge`: stderr goes where stdout goes, in the order of writing."""

    program: Program
    identity: Identity
    files: Files = Files()
    network: Literal["none", "host"] = "none"
    hostname: bytes = b"job"
    merge: bool = False
    watch: Watch = Watch()


class Knob(NamedTuple):
    """One file of the leaf and what is written to it; `flag` is the option that asked for it
    ("mem"), for messages."""

    file: str
    value: str
    flag: str


class IoLimit(NamedTuple):
    """An io.max request before its device is known; None leaves what there is, which for a new
    leaf is the kernel's "max"."""

    target: bytes
    rbps: int | Literal["max"] | None = None
    wbps: int | Literal["max"] | None = None
    riops: int | Literal["max"] | None = None
    wiops: int | Literal["max"] | None = None


class Limits(NamedTuple):
    """The limits of one leaf. `io` is resolved to whole-disk devices when the leaf is made."""

    knobs: tuple[Knob, ...] = ()
    io: tuple[IoLimit, ...] = ()
