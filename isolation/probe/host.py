"""The kernel, this process's rights, the start of an init, and the numbers that limit many jobs."""

from __future__ import annotations

import errno
import os

from ..errors import LaunchFailed
from ..identity import CAPABILITIES, DEFAULT_ROOT_CAPABILITIES
from ..shim import reap, spawn
from ..spawn import NAMESPACES, NEW_NETWORK, init_program, sealed_plan
from .cgroups import Place, kernel_version
from .finding import FORBIDDEN, Finding, needed

FLOOR = (5, 14)
# The init's own: namespaces and mounts, devices, loopback, the bounding set; and what it hands on.
_NEEDED = DEFAULT_ROOT_CAPABILITIES | {"sys_admin", "mknod", "net_admin", "setpcap"}
_USEFUL = frozenset({"sys_resource"})
_PIDS_OF_A_JOB = 4096  # --pids, unless said
_MANY = 1000
_NO_LIMIT = 1 << 62


def kernel(works: bool) -> Finding:
    """Its number; `works` is whether the newest thing that jobs need of it was tried and worked."""
    release = os.uname().release
    if kernel_version() >= FLOOR:
        return Finding("kernel", True, f"Linux {release}")
    wanted = f"{FLOOR[0]}.{FLOOR[1]}"
    found = f"Linux {release}, older than {wanted}" + (", yet what it adds is there" * works)
    return Finding("kernel", needed(not works), found, f"use Linux {wanted} or newer")


def root() -> Finding:
    uid = os.geteuid()
    if uid == 0:
        return Finding("root", True, "yes")
    return Finding("root", False, f"uid {uid}: much was not tried", "sudo jobsup doctor")


def capabilities() -> Finding:
    """Root's rights may have been taken from it, as in a container."""
    import prctl

    held = {name for name in CAPABILITIES if getattr(prctl.cap_effective, name, False)}
    if missing := _NEEDED - held:
        return Finding("capabilities", False, f"no {_words(missing)}", _give(missing))
    if missing := _USEFUL - held:
        found = f"no {_words(missing)}: --rlimit and --oom-score-adj cannot go beyond our own"
        return Finding("capabilities", None, found, _give(missing))
    return Finding("capabilities", True, "all that jobs need")


def _words(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))


def memfd() -> Finding:
    """What the plan travels in, and what the init is executed from."""
    try:
        os.close(sealed_plan(b"-"))
        program = os.readlink(f"/proc/self/fd/{init_program()}")
    except LaunchFailed as error:
        return Finding("memfd", False, error.message, _memfd_remedy(error.errno))
    if program.startswith("/memfd:"):
        return Finding("memfd", True, "can be made, sealed and executed")
    found = "not to be executed: the init's file is executed instead"
    return Finding("memfd", None, found, "sysctl -w vm.memfd_noexec=1 (or 0)")


def _give(names: frozenset[str] | set[str]) -> str:
    upper = sorted(name.upper() for name in names)
    return (
        f"keep it: {' '.join(f'--cap-add {name}' for name in upper)} for docker or podman run, "
        f"CapabilityBoundingSet={' '.join(f'CAP_{name}' for name in upper)} in a unit"
    )


def _memfd_remedy(number: int | None) -> str:
    if number == errno.ENOSYS:
        return "use a kernel with CONFIG_MEMFD_CREATE=y; in a container, a seccomp filter with it"
    if number == errno.ENOENT:
        return "build the C parts (./run does), or install the package again"
    return FORBIDDEN


def init(place: Place) -> Finding:
    """A real init in new namespaces, that finds no plan and ends."""
    if place.group < 0:
        return Finding("init", False, "not tried: no cgroup v2", "first: cgroup v2, above")
    try:
        reap(spawn(init_program(), place.group, NAMESPACES | NEW_NETWORK, []))
    except LaunchFailed as error:
        return Finding("init", False, error.message, _init_remedy(error))
    return Finding("init", True, "can be cloned into a cgroup, with a pidfd, and executed")


def _init_remedy(error: LaunchFailed) -> str:
    cloning = "clone3" in error.message
    match error.errno:
        case errno.ENOSYS if cloning:
            return (
                "use Linux 5.7 or newer; in a container, a seccomp filter that lets clone3 through"
            )
        case errno.ENOSPC if cloning:
            return "raise the limit of namespaces that another finding names"
        case errno.EOPNOTSUPP | errno.EBUSY if cloning:
            return "use a cgroup whose cgroup.type is domain, and that enables no controller"
        case errno.EACCES if not cloning:
            return "sysctl -w vm.memfd_noexec=1 (or 0), and no noexec mount under the package"
        case errno.ENOEXEC | errno.ENOENT if not cloning:
            return "build the C parts (./run does), or install the package again"
    return FORBIDDEN


def overlay() -> Finding:
    """Asked without a mount, which would load the module."""
    with open("/proc/filesystems", encoding="ascii") as file:
        if "overlay" in file.read().split():
            return Finding("overlayfs", True, "there")
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.dep", encoding="utf-8") as file:
            if "/overlay.ko" in file.read():
                return Finding("overlayfs", True, "a module, loaded when it is mounted")
    except OSError:
        pass
    return Finding(
        "overlayfs",
        None,
        "missing (no option needs it yet)",
        "use a kernel with CONFIG_OVERLAY_FS=y",
    )


def processes() -> Finding:
    """Jobs together may have seven eighths of the host's pids."""
    limits = {name: _number(f"/proc/sys/kernel/{name}") for name in ("pid_max", "threads-max")}
    name = min(limits, key=limits.__getitem__)
    share = limits[name] * 7 // 8
    if share < _PIDS_OF_A_JOB:
        found = f"kernel.{name} leaves jobs {share}, less than one job may have by default"
        return Finding("processes", None, found, f"sysctl -w kernel.{name}=32768")
    return Finding("processes", True, f"{share} for all jobs together")


def jobs_at_once(place: Place) -> Finding:
    """Every job has its namespaces and its cgroup."""
    limits = {
        f"user.max_{name}_namespaces": _number(f"/proc/sys/user/max_{name}_namespaces")
        for name in ("pid", "mnt", "net", "uts", "ipc", "cgroup")
    }
    if place.mount is not None:
        path = f"{place.mount}/cgroup.max.descendants"
        limits[path] = _number(path)
    name = min(limits, key=limits.__getitem__)
    if limits[name] < _MANY:
        remedy = f"echo 65536 > {name}" if name.startswith("/") else f"sysctl -w {name}=65536"
        return Finding("jobs at once", None, f"{name} allows {limits[name]}", remedy)
    if limits[name] == _NO_LIMIT:
        return Finding("jobs at once", True, "no limit in sight")
    return Finding("jobs at once", True, f"up to {limits[name]}, by {name}")


def _number(path: str) -> int:
    """The number in a file; "max", and a file that this kernel does not have, are no limit."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return _NO_LIMIT
    return _NO_LIMIT if text == "max" else int(text)
