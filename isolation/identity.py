"""Who a job may be: capability names, root's default set, default resource limits."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from functools import cache

from .walls import Rlimit

# capabilities(7), linux/capability.h: the position is the number.
_NAMES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio "
    "sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time "
    "sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog "
    "wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
).split()

CAPABILITIES: dict[str, int] = {name: number for number, name in enumerate(_NAMES)}

# What ordinary programs that expect to be root use on files and processes of their own.
DEFAULT_ROOT_CAPABILITIES: frozenset[str] = frozenset(
    "chown dac_override fowner fsetid kill setgid setuid net_bind_service".split()
)

# Names and numbers of getrlimit(2); two of them are unknown to the module resource.
RLIMITS: dict[str, int] = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"  # an old name of NOFILE
} | {"locks": 10, "rttime": 15}

_UNLIMITED = resource.RLIM_INFINITY
# Every limit that there is, so that a job does not depend on the shell that started it; (soft,
# hard) as a login session of a systemd host has them, but without core dumps.
_DEFAULT_RLIMITS: dict[int, tuple[int, int]] = {
    resource.RLIMIT_AS: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_CORE: (0, _UNLIMITED),
    resource.RLIMIT_CPU: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_DATA: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_FSIZE: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    resource.RLIMIT_MSGQUEUE: (819_200, 819_200),
    resource.RLIMIT_NICE: (0, 0),
    resource.RLIMIT_NOFILE: (1024, 524_288),  # soft as select(2) needs it
    resource.RLIMIT_NPROC: (_UNLIMITED, _UNLIMITED),  # counts a user; pids.max counts the job
    resource.RLIMIT_RSS: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_RTPRIO: (0, 0),
    RLIMITS["rttime"]: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_SIGPENDING: (32_768, 32_768),
    resource.RLIMIT_STACK: (8 << 20, _UNLIMITED),
}


def capability_mask(names: Iterable[str]) -> int:
    """The bits of a set of capabilities, as capset(2) has them."""
    return sum(1 << CAPABILITIES[name] for name in names)


def capability_words(names: frozenset[str]) -> str:
    return " ".join(sorted(names, key=CAPABILITIES.__getitem__)) or "none"


def all_rlimits(asked: Sequence[Rlimit]) -> tuple[Rlimit, ...]:
    """The whole set that a job gets: what was asked for, and a default for the rest.

    A default above what this process may give (it lacks CAP_SYS_RESOURCE, as in a container) is
    lowered to that; what was asked for is never changed, and fails at its step.
    """
    wanted = {limit.resource: limit for limit in asked}
    defaults = (
        Rlimit(number, *_default(number)) for number in _DEFAULT_RLIMITS if number not in wanted
    )
    return (*defaults, *wanted.values())


@cache
def _may_raise() -> bool:
    with open("/proc/self/status", "rb") as status:
        effective = next(line for line in status if line.startswith(b"CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAPABILITIES["sys_resource"] & 1)


def _default(number: int) -> tuple[int, int]:
    soft, hard = _DEFAULT_RLIMITS[number]
    ceiling = _UNLIMITED if _may_raise() else resource.getrlimit(number)[1]
    if ceiling == _UNLIMITED:
        return soft, hard
    hard = ceiling if hard == _UNLIMITED else min(hard, ceiling)
    return (hard if soft == _UNLIMITED else min(soft, hard)), hard
