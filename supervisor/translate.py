"""A spec turned into walls and limits: the vocabulary of people into that of isolation.

Here the host is asked who its users and groups are, and how many descriptors it allows, and nothing
else; all the rest is a function of the spec and of the caller, so that what a job will get can be
tested, and shown, without making it.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from resource import RLIM_INFINITY
from typing import Self

from jobsup.isolation import (
    CAPABILITIES,
    DEFAULT_ROOT_CAPABILITIES,
    RLIMITS,
    Files,
    Identity,
    Knob,
    Limits,
    Program,
    Rlimit,
    Walls,
    Watch,
    WhenFull,
    all_rlimits,
)

from .errors import BadValue
from .fields import ARGUMENT_MAX
from .spec import Spec
from .units import format_size

# Our own state: no job may reach it, whatever it was granted.
HIDDEN = (b"/run/jobsup", b"/var/lib/jobsup")

_PATH_OF_ROOT = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATH_OF_OTHERS = b"/usr/local/bin:/usr/bin:/bin"
# What a job gets from its caller unasked: how to talk to a person.
_OF_THE_CALLER = (b"LANG", b"TERM", b"TZ")
# What speaks of sockets and descriptors of the caller's own, which no job has, even inheriting.
_NEVER_INHERITED = (b"NOTIFY_SOCKET", b"LISTEN_", b"WATCHDOG_", b"JOURNAL_STREAM", b"INVOCATION_ID")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a job: the identity it gets unless told otherwise, and the environment from
    which it may take variables."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: Mapping[bytes, bytes]

    @classmethod
    def current(cls) -> Self:
        """This process's own user."""
        return cls(os.geteuid(), os.getegid(), tuple(os.getgroups()), dict(os.environb))


def translate(
    spec: Spec, job_id: str, caller: Caller, *, hidden: tuple[bytes, ...] = HIDDEN
) -> tuple[Walls, Limits]:
    """The walls and limits that the spec asks for.

    Args:
        hidden: the directories that no job may reach.

    Raises:
        BadValue: for a user or group that the host does not have, for what only root may ask, and
            for arguments that together are more than the kernel takes.
    """
    identity = _identity(spec, caller)
    environment = _environment(spec, job_id, identity.uid, caller)
    walls = Walls(
        program=_program(spec, environment),
        identity=identity,
        files=Files(
            root=spec.root,
            grants=(*spec.rw, *spec.ro, *spec.tmpfs),
            hidden=hidden,
            cwd=spec.cwd,
            resolve_as=_owner(caller),
        ),
        network=spec.net,
        hostname=spec.hostname.encode(),
        merge=spec.merge,
        watch=_watch(spec),
    )
    return walls, Limits(knobs=_knobs(spec), io=spec.io_max)


def _owner(caller: Caller) -> Identity | None:
    """With whose rights the paths of the spec are found; None: with root's own."""
    return None if caller.uid == 0 else Identity(caller.uid, caller.gid, caller.groups)


def is_of_the_caller(variable: bytes) -> bool:
    """Whether a job gets this variable of its caller's without being asked."""
    return variable in _OF_THE_CALLER or variable.startswith(b"LC_")


def user_name(uid: int) -> str:
    """A uid's name where the host has one, else its digits."""
    entry = _passwd(uid)
    return entry.pw_name if entry else str(uid)


# ---- identity


def _identity(spec: Spec, caller: Caller) -> Identity:
    if spec.user is None:
        uid, gid, groups = caller.uid, caller.gid, caller.groups
        if spec.group is not None:
            gid = _gid("group", spec.group)
    else:
        uid, gid, groups = _named_user(spec)
    if spec.groups is not None:
        groups = tuple(_gid("groups", group) for group in spec.groups)
    if caller.uid != 0:
        _refuse_strangers(spec, caller, Identity(uid, gid, groups))
        _refuse_privileges(spec)
    return Identity(uid, gid, groups, _capabilities(spec, uid, caller))


def _named_user(spec: Spec) -> tuple[int, int, tuple[int, ...]]:
    """The ids that a login as spec.user would have."""
    assert spec.user is not None
    entry = _passwd(spec.user)
    asked = None if spec.group is None else _gid("group", spec.group)
    if entry is not None:
        gid = entry.pw_gid if asked is None else asked
        return entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid))
    if isinstance(spec.user, str):
        raise BadValue("user", spec.user, "is not a user of this host", "getent passwd lists them")
    if asked is not None:
        return spec.user, asked, ()
    # A uid without an entry gets the group of the same number, as long as it is nobody else's.
    if _is_group(spec.user):
        why = "has no passwd entry, and the group of that number is another's"
        raise BadValue("user", spec.user, why, "say which group with {group=GID}")
    return spec.user, spec.user, ()


def _passwd(user: int | str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except (KeyError, UnicodeEncodeError):
        return None


def _gid(field: str, group: int | str) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, UnicodeEncodeError):
        why = "is not a group of this host"
        raise BadValue(field, group, why, "getent group lists them") from None


def _is_group(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def _refuse_strangers(spec: Spec, caller: Caller, asked: Identity) -> None:
    """Who is not root runs as nobody but themselves."""
    own = {caller.gid, *caller.groups}
    if asked.uid != caller.uid:
        raise BadValue("user", spec.user, "is not the caller", "only root may name another user")
    if asked.gid not in own:
        raise BadValue("group", spec.group or asked.gid, "is not a group of the caller's")
    for gid in asked.groups:
        if gid not in own:
            raise BadValue("groups", gid, "is not a group of the caller's")


_EVERYBODYS_WEIGHT = 100


def _refuse_privileges(spec: Spec) -> None:
    """Who is not root takes nothing from others' jobs, nor more than a login would give them."""
    remedy = "only root may"
    if spec.mem_low:
        why = "would keep memory from everybody else's jobs"
        raise BadValue("mem_low", format_size(spec.mem_low), why, remedy)
    for field in ("cpu_weight", "io_weight"):
        weight = getattr(spec, field)
        if weight is not None and weight > _EVERYBODYS_WEIGHT:
            why = f"is above everybody's, {_EVERYBODYS_WEIGHT}"
            raise BadValue(field, weight, why, remedy)
    if spec.cgroup:
        raise BadValue("cgroup", spec.cgroup[0][0], "is not written for a user's job", remedy)
    if spec.oom_score_adj < 0:
        why = "would have others killed in the job's place"
        raise BadValue("oom_score_adj", spec.oom_score_adj, why, remedy)
    for limit in spec.io_max:
        # Its disk is looked up as root, and how that fails would tell what is where they may not
        # look.
        if limit.target.startswith(b"/"):
            hint = "the disk's MAJOR:MINOR, which lsblk prints"
            raise BadValue("io_max", limit.target, "is a path, and only root may give one", hint)
    _refuse_rlimits(spec.rlimit)


def _refuse_rlimits(limits: tuple[Rlimit, ...]) -> None:
    most = {limit.resource: limit.hard for limit in all_rlimits(())}
    for limit in limits:
        ceiling = most.get(limit.resource, 0)  # of one without a default nothing is given
        if ceiling != RLIM_INFINITY and not 0 <= limit.hard <= ceiling:
            name = next(name for name, number in RLIMITS.items() if number == limit.resource)
            asked = "unlimited" if limit.hard == RLIM_INFINITY else limit.hard
            why = "is above the hard limit of a user's job"
            raise BadValue("rlimit", f"{name}={asked}", why, f"the most is {name}={ceiling}")


def _capabilities(spec: Spec, uid: int, caller: Caller) -> frozenset[str]:
    granted = set(DEFAULT_ROOT_CAPABILITIES) if uid == 0 and caller.uid == 0 else set()
    for change in spec.cap:
        if change.startswith("-"):
            granted.discard(change[1:])
        else:
            granted = {"none": set(), "all": set(CAPABILITIES)}.get(change, granted | {change})
        # With empty inheritable and ambient sets, an exec leaves who is not root with none: a
        # capability that was granted would silently not be there.
        if granted and (uid != 0 or caller.uid != 0):
            why = "would have no effect: only a job of root's has capabilities"
            raise BadValue("cap", change, why)
    return frozenset(granted)


# ---- the program


def _environment(spec: Spec, job_id: str, uid: int, caller: Caller) -> dict[bytes, bytes]:
    """A clean environment, then what was asked for."""
    entry = _passwd(uid)
    name = os.fsencode(entry.pw_name) if entry else b"%d" % uid
    clean = {
        b"PATH": _PATH_OF_ROOT if uid == 0 else _PATH_OF_OTHERS,
        b"HOME": os.fsencode(entry.pw_dir) if entry else b"/",
        b"USER": name,
        b"LOGNAME": name,
        b"SHELL": os.fsencode(entry.pw_shell) if entry and entry.pw_shell else b"/bin/sh",
    }
    given = caller.environment
    if spec.inherit_env:
        inherited = {n: v for n, v in given.items() if not n.startswith(_NEVER_INHERITED)}
        # Another user's job is at home with that user.
        clean = clean | inherited if uid == caller.uid else inherited | clean
    else:
        clean |= {name: value for name, value in given.items() if is_of_the_caller(name)}
    for variable, value in spec.env:
        if value is not None:
            clean[variable] = value
        elif variable in given:
            clean[variable] = given[variable]
    clean[b"JOBSUP_JOB_ID"] = job_id.encode()
    return clean


def _program(spec: Spec, environment: Mapping[bytes, bytes]) -> Program:
    _check_descriptors(spec)
    rlimits = all_rlimits(spec.rlimit)
    program = Program(
        argv=spec.argv,
        candidates=candidates(spec.argv[0], environment[b"PATH"], spec.cwd),
        environment=tuple(environment.items()),
        rlimits=rlimits,
        oom_score_adj=spec.oom_score_adj,
    )
    _check_size(program, next(x.soft for x in rlimits if x.resource == RLIMITS["stack"]))
    return program


def _check_descriptors(spec: Spec) -> None:
    """Refuse what setrlimit(2) would, whoever asks: more descriptors than the host's files have."""
    for limit in spec.rlimit:
        if limit.resource != RLIMITS["nofile"]:
            continue
        with open("/proc/sys/fs/nr_open", "rb") as file:
            most = int(file.read())
        if limit.hard == RLIM_INFINITY or limit.hard > most:
            shown = "unlimited" if limit.hard == RLIM_INFINITY else str(limit.hard)
            remedy = f"the most is {most}, which sysctl fs.nr_open raises"
            raise BadValue("rlimit", f"nofile={shown}", "is more than this host allows", remedy)


def candidates(command: bytes, path: bytes, cwd: bytes) -> tuple[bytes, ...]:
    """Where execvp(3) would look for the command: absolute paths, in order."""
    if b"/" in command:
        return (_absolute(command, cwd),)
    # An empty entry of PATH is the working directory.
    return tuple(_absolute(b"%b/%b" % (entry or b".", command), cwd) for entry in path.split(b":"))


def _absolute(path: bytes, cwd: bytes) -> bytes:
    # Only "./" is taken off: what ".." leads to is known when links have been followed.
    while path.startswith(b"./"):
        path = path[2:].lstrip(b"/")
    return path if path.startswith(b"/") else b"%b/%b" % (cwd.rstrip(b"/"), path)


def _check_size(program: Program, stack: int) -> None:
    """Refuse what execve(2) would, before anything is made (the sums are those of fs/exec.c)."""
    strings = [*program.argv, *(b"%b=%b" % pair for pair in program.environment)]
    longest_name = max(map(len, program.candidates))
    size = sum(len(string) + 1 + 8 for string in strings) + longest_name + 1
    most = 6 << 20 if stack == RLIM_INFINITY else max(min(6 << 20, stack // 4), 128 * 1024)
    most -= 4096  # for the lines "#!" of scripts, which the kernel puts in front
    if size > most:
        why = f"with its arguments and environment takes {size} bytes: {os.strerror(errno.E2BIG)}"
        remedy = f"the most is {most} bytes; give data through a file or stdin"
        raise BadValue("argv", program.argv[0], why, remedy)
    for variable, value in program.environment:
        if len(variable) + len(value) + 2 > ARGUMENT_MAX:
            raise BadValue("env", os.fsdecode(variable), f"is longer than {ARGUMENT_MAX} bytes")


# ---- watch and limits


def _watch(spec: Spec) -> Watch:
    return Watch(
        wall_ms=None if spec.time is None else _milli(spec.time),
        cpu_usec=spec.cpu_time,
        grace_ms=_milli(spec.grace),
        output_max=spec.output_max,
        when_full=WhenFull[spec.output_full.upper()],
    )


def _milli(usec: int) -> int:
    """Rounded up: no time that was asked for becomes none at all."""
    return -(-usec // 1000)


def _knobs(spec: Spec) -> tuple[Knob, ...]:
    """The files of the leaf, each once; what --cgroup says comes last and replaces defaults."""
    given: list[tuple[str, int | str | object | None, str]] = [
        ("memory.max", spec.mem, "mem"),
        ("memory.high", spec.mem_high, "mem_high"),
        ("memory.low", spec.mem_low, "mem_low"),
        ("memory.swap.max", spec.swap, "swap"),
        ("cpu.max", spec.cpus, "cpus"),
        ("cpu.weight", spec.cpu_weight, "cpu_weight"),
        ("cpuset.cpus", spec.cpuset, "cpuset"),
        ("io.weight", None if spec.io_weight is None else f"default {spec.io_weight}", "io_weight"),
        # Nobody need have asked for it: what was asked for is named first where all are missing.
        ("pids.max", spec.pids, "pids"),
        *((name, value, "cgroup") for name, value in spec.cgroup),
    ]
    knobs = {file: Knob(file, str(value), flag) for file, value, flag in given if value is not None}
    if knobs.get("memory.max", Knob("", "max", "")).value != "max":
        flag = knobs["memory.max"].flag
        # A limit that pages could evade by swapping, or that ends half a job, is none.
        implied = [
            Knob("memory.swap.max", "0", flag),
            Knob("memory.oom.group", str(int(spec.oom_group)), flag),
        ]
        knobs |= {knob.file: knob for knob in implied if knob.file not in knobs}
    return tuple(knobs.values())
