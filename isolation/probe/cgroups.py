"""What cgroup v2 offers to jobs here.

Where it is usable, a group is made for the time of the asking and looked at: below jobs/ if jobs
ran here before, else beside what systemd or others keep at the top. Nothing else is made, enabled
or moved: on a host where cgroup v1 holds controllers, or where only systemd may make groups, what
there is to read must do.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .. import controllers, hierarchy, keeper
from ..controllers import CONTROLLERS, UNIFIED
from ..errors import HostNotSupported
from ..hierarchy import Hierarchy
from .finding import Finding, failed, needed

# What a controller is for, and whether every job is limited by it.
_USES = {
    "pids": "every job",
    "memory": "--mem and its kin",
    "cpu": "--cpus and --cpu-weight",
    "io": "--io-max and --io-weight",
    "cpuset": "--cpuset",
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where cgroup v2 is looked at.

    `group` is a descriptor of a group that a process of ours may be cloned into, -1 without one:
    the trial group, else the group that this process is in already. `trial` is the trial group's
    path; None without one, and then `refused` is why it could not be made, if it was tried.
    """

    mount: str | None
    parent: str | None = None
    group: int = -1
    trial: str | None = None
    refused: OSError | None = None

    def has(self, file: str) -> bool | None:
        """Whether a group of a job's has this file; None when there is no group to look at."""
        if self.trial is None or not self._has_controller(file.partition(".")[0]):
            return None
        try:
            os.close(os.open(f"{self.trial}/{file}", os.O_PATH | os.O_CLOEXEC))
        except FileNotFoundError:
            return False
        return True

    def _has_controller(self, name: str) -> bool:
        assert self.trial is not None
        return name not in CONTROLLERS or name in controllers.available(self.trial)


@contextmanager
def look() -> Iterator[Place]:
    """The place, with a trial group where one may be made; it is gone afterwards."""
    try:
        mount = controllers.find_mount()
    except HostNotSupported:
        yield Place(None)
        return
    parent = _parent(mount)
    if parent is None or os.geteuid() != 0:
        with _own_group(mount) as own:
            yield Place(mount, parent, own)
        return
    name = f"jobsup-doctor-{os.getpid()}"
    try:
        group = _make(mount, parent, name)
    except OSError as error:
        with _own_group(mount) as own:
            yield Place(mount, parent, own, refused=error)
        return
    try:
        yield Place(mount, parent, group, f"{parent}/{name}")
    finally:
        _remove(f"{parent}/{name}")
        os.close(group)


def _parent(mount: str) -> str | None:
    """Where a group may be made without asking anybody or changing anything, if there is one."""
    if _version_one_rules():
        return None
    base = keeper.control_group(mount) if keeper.on_systemd() else f"{mount}/jobsup"
    if base is not None and os.path.isdir(f"{base}/jobs"):
        return f"{base}/jobs"
    return None if keeper.on_systemd() else mount


def _make(mount: str, parent: str, name: str) -> int:
    if parent != mount:  # locked, as a leaf is, or a sweep would take it away
        return hierarchy.make_leaf(Hierarchy(mount, os.path.dirname(parent)), name)
    os.mkdir(f"{parent}/{name}", 0o755)
    return os.open(f"{parent}/{name}", _DIRECTORY)


def _remove(group: str) -> None:
    for _ in range(50):
        with suppress(OSError):
            os.rmdir(group)
            return
        # An init that was reaped is still on its way out of the kernel's lists; nothing tells when
        # it has gone.
        time.sleep(0.002)


def _version_one_rules() -> bool:
    """No job can run, so nothing is to be made, not even for a moment."""
    return "pids" in controllers.v1_controllers()


@contextmanager
def _own_group(mount: str) -> Iterator[int]:
    """The group that this process is in, -1 where it cannot be seen from here."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n") for line in file]
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    try:
        descriptor = os.open(f"{mount}/{own}", _DIRECTORY)
    except OSError:
        yield -1
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def findings(place: Place) -> list[Finding]:
    """Everything about cgroup v2, from its mount to the files of a group."""
    return [
        _mounted(place),
        _version_one(),
        *(_controller(name, place) for name in _USES),
        *([_groups(place)] if place.mount is not None and os.geteuid() == 0 else []),
        _kill(place),
        _file(place, "memory.peak", (5, 19), "the peak in a verdict", "use Linux 5.19 or newer"),
        _file(place, "memory.swap.max", (4, 5), "--mem", "use a kernel with CONFIG_SWAP=y"),
        _pressure(),
    ]


def _mounted(place: Place) -> Finding:
    if place.mount is None:
        remedy = "mount -t cgroup2 none /sys/fs/cgroup" if _offered() else UNIFIED
        return Finding("cgroup v2", False, "not mounted", remedy)
    return Finding("cgroup v2", True, f"at {place.mount}")


def _offered() -> bool:
    """Nobody else holds what a mount of it would give."""
    return not controllers.v1_controllers() and not os.path.ismount("/sys/fs/cgroup")


def _version_one() -> Finding:
    held = controllers.v1_controllers()
    if held:
        ok = needed("pids" in held)
        return Finding("cgroup v1", ok, f"holds {', '.join(sorted(held))}", UNIFIED)
    return Finding("cgroup v1", True, "holds no controller that jobs need")


def _controller(name: str, place: Place) -> Finding:
    title, use = f"controller {name}", f"needed by {_USES[name]}"
    missing = needed(name == "pids")
    if place.mount is None and name not in controllers.v1_controllers():
        return Finding(title, missing, f"no cgroup v2 ({use})", "first: cgroup v2, above")
    if place.mount is None or name not in controllers.available(place.mount):
        cause, remedy = controllers.why_missing(name)
        return Finding(title, missing, f"{cause} it ({use})", remedy)
    directory = place.parent or place.mount
    with open(f"{directory}/cgroup.subtree_control", encoding="ascii") as file:
        enabled = name in file.read().split()
    if not enabled and (blocked := controllers.obstacle(place.mount)):
        return Finding(title, missing, f"cannot be enabled: {blocked[0]} ({use})", blocked[1])
    return Finding(title, True, "enabled for jobs" if enabled else "there, enabled on first use")


def _groups(place: Place) -> Finding:
    name, where = "groups", place.parent or place.mount
    if place.trial is not None:
        return Finding(name, True, f"can be made in {where}")
    if place.refused is not None:
        found = failed(f"mkdir in {where}", place.refused.errno or 0)
        return Finding(name, False, found, _refusal(place.refused, where))
    if _version_one_rules():
        return Finding(name, None, "not tried beside cgroup v1", UNIFIED)
    return _systemd(name)


def _refusal(error: OSError, where: str | None) -> str:
    if error.errno == errno.EROFS:
        return (
            f"mount -o remount,rw {where}; in a container, start it with a cgroup of its own "
            "that it may write (docker run --privileged --cgroupns=private)"
        )
    if error.errno == errno.EAGAIN:
        return f"raise cgroup.max.descendants and cgroup.max.depth of {where} and above"
    return "run as the host's root, or where the cgroup is delegated to you"


def _systemd(name: str) -> Finding:
    """systemd is asked whether it answers; its unit is made by the first job."""
    try:
        asked = subprocess.run(
            ["systemd-run", "--version"], capture_output=True, text=True, check=True
        )
        subprocess.run(
            ["systemctl", "show", "--property=Version"], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        return Finding(name, False, f"no {error.filename} in PATH", "apt-get install systemd")
    except subprocess.CalledProcessError as error:
        found = f"systemd does not answer: {error.stderr.strip().splitlines()[0]}"
        return Finding(name, False, found, "run on the host itself, as root: systemctl must work")
    return Finding(name, True, f"{asked.stdout.split(' (')[0]} makes {keeper.UNIT} on first use")


def kernel_version(release: str | None = None) -> tuple[int, int]:
    """The kernel's own word, for what cannot be tried here; `release` as uname(2) has it."""
    numbers = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _kill(place: Place) -> Finding:
    name, remedy = "cgroup.kill", "use Linux 5.14 or newer"
    if place.trial is None:
        return _by_version(name, (5, 14), False, remedy)
    try:
        with open(f"{place.trial}/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")  # nobody is in it
    except OSError as error:
        return Finding(name, False, failed("writing it", error.errno or 0), remedy)
    return Finding(name, True, "ends a whole group at once")


def _file(place: Place, file: str, since: tuple[int, int], use: str, remedy: str) -> Finding:
    there = place.has(file)
    if there is None:
        return _by_version(file, since, None, remedy)
    if there:
        return Finding(file, True, "there")
    return Finding(file, None, f"missing (needed by {use})", remedy)


def _by_version(name: str, since: tuple[int, int], missing: bool | None, remedy: str) -> Finding:
    """Without a group to look at, only the kernel's number tells."""
    if kernel_version() >= since:
        return Finding(name, True, "not tried; Linux has it since {}.{}".format(*since))
    return Finding(name, missing, "not tried; Linux has it since {}.{}".format(*since), remedy)


def _pressure() -> Finding:
    try:
        with open("/proc/pressure/memory", encoding="ascii") as file:
            file.read()
    except OSError as error:
        return Finding(
            "pressure (PSI)",
            None,
            failed("/proc/pressure/memory", error.errno or 0) + " (needed by pressure in verdicts)",
            "boot with psi=1; without effect: use a kernel with CONFIG_PSI=y",
        )
    return Finding("pressure (PSI)", True, "measured")
