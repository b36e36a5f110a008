"""The steps of a plan: small frozen values, each one thing that the init or the workload does.

A step knows two things: the sentence that describes it, which is also how its failure is told,
and its numbers and strings for the wire (native/abi.h). What it does is in native/init, one
function a step; which steps a job gets is decided in rootfs and plan.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from typing import ClassVar, NoReturn, dataclass_transform

from .identity import RLIMITS, capability_mask, capability_words
from .shim import constant

READ_ONLY, NO_SUID, NO_DEV, NO_EXEC = 1, 2, 4, 8  # MOUNT_ATTR_*, mount_setattr(2)
# How sources and targets are found: native/init/tree.c
CREATE, NO_LINKS, OPTIONAL, OF_OWNER = 1, 2, 4, 8
_ATTRIBUTE_WORDS = (
    (READ_ONLY, "read-only"),
    (NO_SUID, "nosuid"),
    (NO_DEV, "nodev"),
    (NO_EXEC, "noexec"),
)
_RLIMIT_NAMES = {number: name for name, number in RLIMITS.items()}
_STEP = struct.Struct("=4I")
_U64 = (1 << 64) - 1


def _words(attributes: int) -> str:
    return ", ".join(word for bit, word in _ATTRIBUTE_WORDS if attributes & bit) or "writable"


def _text(path: bytes) -> str:
    return os.fsdecode(path)


@dataclass_transform(frozen_default=True)
class Step:
    """One thing to do. Subclasses are frozen values whose fields are their annotations.

    They are written as dataclasses are, and are none: those compile six functions for each class,
    which took a tenth of the time in which `jobsup run` starts.
    """

    op: ClassVar[int]
    option: ClassVar[str | None] = None  # what asked for it, where something did: "cwd"
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(name for name in cls.__annotations__ if name != "op")

    def __init__(self, *values: object, **named: object) -> None:
        vars(self).update(zip(self._fields, values, strict=False), **named)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a step does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._values()}"

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def describe(self) -> str:
        """What the step does, as in "mount tmpfs on /tmp"."""
        raise NotImplementedError

    def numbers(self) -> Sequence[int]:
        return ()

    def strings(self) -> Sequence[bytes]:
        return ()

    def encode(self) -> bytes:
        """The step as native/abi.h lays it out."""
        numbers, strings = self.numbers(), self.strings()
        parts = [struct.pack(f"={len(numbers)}Q", *(n & _U64 for n in numbers))]
        for string in strings:
            parts.append(len(string).to_bytes(4, sys.byteorder))
            parts.append(string)
            parts.append(b"\0")
        body = b"".join(parts)
        body += bytes(-len(body) % 8)
        return _STEP.pack(self.op, _STEP.size + len(body), len(numbers), len(strings)) + body


class Block:
    """Steps in a row with their bytes, made once for all plans that have the same ones."""

    __slots__ = ("encoded", "steps")

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.encoded = b"".join([step.encode() for step in steps])


class PrivateMounts(Step):
    op: ClassVar[int] = constant("STEP_PRIVATE_MOUNTS")

    def describe(self) -> str:
        return "let no mount travel in or out"


class Owner(Step):
    """Steps with OF_OWNER are done with these rights, as far as they look at files."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    op: ClassVar[int] = constant("STEP_OWNER")

    def describe(self) -> str:
        return f"look at granted paths as uid {self.uid}, gid {self.gid}, without capabilities"

    def numbers(self) -> Sequence[int]:
        return (self.uid, self.gid, *self.groups)


class Root(Step):
    source: bytes
    attributes: int
    how: int = 0
    op: ClassVar[int] = constant("STEP_ROOT")
    option = "root"

    def describe(self) -> str:
        return f"take {_text(self.source)} as the root, {_words(self.attributes)}"

    def numbers(self) -> Sequence[int]:
        return (self.attributes, self.how)

    def strings(self) -> Sequence[bytes]:
        return (self.source,)


class Detach(Step):
    target: bytes
    op: ClassVar[int] = constant("STEP_DETACH")

    def describe(self) -> str:
        return f"drop what the host has mounted on {_text(self.target)}"

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Mount(Step):
    """A new file system; `options` as mount(8) has them, `how` is CREATE | NO_LINKS …"""

    type: bytes
    target: bytes
    options: tuple[bytes, ...] = ()
    attributes: int = NO_SUID | NO_DEV
    how: int = 0
    op: ClassVar[int] = constant("STEP_MOUNT")

    def describe(self) -> str:
        details = ", ".join([*map(_text, self.options), _words(self.attributes)])
        return f"mount {_text(self.type)} on {_text(self.target)} ({details})"

    def numbers(self) -> Sequence[int]:
        return (self.attributes, self.how)

    def strings(self) -> Sequence[bytes]:
        return (self.type, self.target, *self.options)


class BindMount(Step):
    """A host file or directory, with all that is mounted below it."""

    source: bytes
    target: bytes
    attributes: int = READ_ONLY | NO_SUID | NO_DEV
    how: int = CREATE
    op: ClassVar[int] = constant("STEP_BIND")

    def describe(self) -> str:
        where = "" if self.source == self.target else f" on {_text(self.target)}"
        return f"bind {_text(self.source)}{where} ({_words(self.attributes)})"

    def numbers(self) -> Sequence[int]:
        return (self.attributes, self.how)

    def strings(self) -> Sequence[bytes]:
        return (self.source, self.target)


class MakeDir(Step):
    target: bytes
    mode: int = 0o755
    op: ClassVar[int] = constant("STEP_MAKE_DIR")

    def describe(self) -> str:
        return f"make {_text(self.target)}"

    def numbers(self) -> Sequence[int]:
        return (self.mode,)

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Device(Step):
    target: bytes
    major: int
    minor: int
    mode: int = 0o666
    op: ClassVar[int] = constant("STEP_DEVICE")

    def describe(self) -> str:
        return f"make {_text(self.target)} (device {self.major}:{self.minor})"

    def numbers(self) -> Sequence[int]:
        return (self.mode, self.major, self.minor)

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Symlink(Step):
    target: bytes
    content: bytes
    op: ClassVar[int] = constant("STEP_SYMLINK")

    def describe(self) -> str:
        return f"make {_text(self.target)} (link to {_text(self.content)})"

    def strings(self) -> Sequence[bytes]:
        return (self.target, self.content)


class ReadOnly(Step):
    target: bytes
    op: ClassVar[int] = constant("STEP_READ_ONLY")

    def describe(self) -> str:
        return f"make {_text(self.target)} read-only"

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Seal(Step):
    target: bytes
    op: ClassVar[int] = constant("STEP_SEAL")

    def describe(self) -> str:
        return f"make {_text(self.target)} read-only from there down"

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Mask(Step):
    target: bytes
    op: ClassVar[int] = constant("STEP_MASK")

    def describe(self) -> str:
        return f"hide {_text(self.target)}"

    def strings(self) -> Sequence[bytes]:
        return (self.target,)


class Pivot(Step):
    op: ClassVar[int] = constant("STEP_PIVOT")

    def describe(self) -> str:
        return "make the new tree / and drop the host's root"


class Hostname(Step):
    name: bytes
    op: ClassVar[int] = constant("STEP_HOSTNAME")
    option = "hostname"

    def describe(self) -> str:
        return f"set the host name to {_text(self.name)}"

    def strings(self) -> Sequence[bytes]:
        return (self.name,)


class Loopback(Step):
    op: ClassVar[int] = constant("STEP_LOOPBACK")

    def describe(self) -> str:
        return "bring the loopback interface up"


class Workload(Step):
    op: ClassVar[int] = constant("STEP_WORKLOAD")

    def describe(self) -> str:
        return "clone the workload into its leaf"


class CgroupNamespace(Step):
    op: ClassVar[int] = constant("STEP_CGROUP_NAMESPACE")

    def describe(self) -> str:
        return "make the leaf the root of the job's cgroup namespace"


class Session(Step):
    op: ClassVar[int] = constant("STEP_SESSION")

    def describe(self) -> str:
        return "begin a session without a terminal and with an empty keyring"


class OomScore(Step):
    value: int
    op: ClassVar[int] = constant("STEP_OOM_SCORE")
    option = "oom_score_adj"

    def describe(self) -> str:
        return f"set oom_score_adj to {self.value}"

    def numbers(self) -> Sequence[int]:
        return (self.value,)


class Scheduler(Step):
    op: ClassVar[int] = constant("STEP_SCHEDULER")

    def describe(self) -> str:
        return "reset the scheduler, nice and io priority"


class SetRlimit(Step):
    resource: int
    soft: int
    hard: int
    op: ClassVar[int] = constant("STEP_RLIMIT")
    option = "rlimit"

    def describe(self) -> str:
        soft, hard = ("unlimited" if n == -1 else str(n) for n in (self.soft, self.hard))
        return f"limit {_RLIMIT_NAMES[self.resource]} to {soft}, at most {hard}"

    def numbers(self) -> Sequence[int]:
        return (self.resource, self.soft, self.hard)


class Streams(Step):
    uid: int
    gid: int
    op: ClassVar[int] = constant("STEP_STREAMS")

    def describe(self) -> str:
        return "connect stdin, stdout and stderr to pipes and close every other descriptor"

    def numbers(self) -> Sequence[int]:
        return (self.uid, self.gid)


class Bounding(Step):
    capabilities: frozenset[str]
    op: ClassVar[int] = constant("STEP_BOUNDING")

    def describe(self) -> str:
        return f"bound capabilities to {capability_words(self.capabilities)}"

    def numbers(self) -> Sequence[int]:
        return (capability_mask(self.capabilities),)


class Groups(Step):
    gids: tuple[int, ...]
    op: ClassVar[int] = constant("STEP_GROUPS")
    option = "groups"

    def describe(self) -> str:
        return f"set the supplementary groups to {' '.join(map(str, self.gids)) or 'none'}"

    def numbers(self) -> Sequence[int]:
        return self.gids


class User(Step):
    uid: int
    gid: int
    op: ClassVar[int] = constant("STEP_USER")
    option = "user"

    def describe(self) -> str:
        return f"become uid {self.uid}, gid {self.gid}"

    def numbers(self) -> Sequence[int]:
        return (self.uid, self.gid)


class Capabilities(Step):
    capabilities: frozenset[str]
    op: ClassVar[int] = constant("STEP_CAPABILITIES")

    def describe(self) -> str:
        return f"keep the capabilities {capability_words(self.capabilities)}"

    def numbers(self) -> Sequence[int]:
        return (capability_mask(self.capabilities),)


class NoNewPrivs(Step):
    op: ClassVar[int] = constant("STEP_NO_NEW_PRIVS")

    def describe(self) -> str:
        return "let no program gain privileges (no_new_privs)"


class Cwd(Step):
    path: bytes
    op: ClassVar[int] = constant("STEP_CWD")
    option = "cwd"

    def describe(self) -> str:
        return f"change to {_text(self.path)}"

    def strings(self) -> Sequence[bytes]:
        return (self.path,)


class Umask(Step):
    mask: int
    op: ClassVar[int] = constant("STEP_UMASK")

    def describe(self) -> str:
        return f"set the umask to {self.mask:03o}"

    def numbers(self) -> Sequence[int]:
        return (self.mask,)


class Exec(Step):
    """Execute the first of `candidates` that can be, as execvp(3) chooses."""

    candidates: tuple[bytes, ...]
    argv: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    op: ClassVar[int] = constant("STEP_EXEC")

    def describe(self) -> str:
        return f"execute {_text(self.argv[0])}"

    def numbers(self) -> Sequence[int]:
        return (len(self.candidates), len(self.argv), len(self.environment))

    def strings(self) -> Sequence[bytes]:
        return (*self.candidates, *self.argv, *self.environment)
