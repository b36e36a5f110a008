"""What the trials (trials.py) found, in words: namespaces, mounts, root, seccomp."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .finding import FORBIDDEN, Finding, failed, needed

_PROGRAM = Path(__file__).with_name("trials.py")
_PATIENCE = 60  # seconds; a trial that hangs in the kernel must not hang its reader

Pair = tuple[str, int]  # a call and its errno

_FILTER = "; in a container, a seccomp filter that lets it through"


@dataclass(frozen=True, slots=True)
class _Question:
    """How a trial is told: by its name in trials.py, which is the finding's too."""

    name: str
    yes: str
    remedy: Callable[[Pair], str]
    every_job: bool = True


def findings() -> list[Finding]:
    """Try, and tell. Root's rights are needed for all of it."""
    command = [sys.executable, "-I", "-S", os.fspath(_PROGRAM)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True
        )
        told: dict[str, list[Pair]] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        words = getattr(error, "stderr", b"") or str(error).encode()
        last = words.decode(errors="replace").strip().splitlines()[-1:]
        return [Finding("trials", False, f"could not be made: {' '.join(last)}", FORBIDDEN)]
    return [_finding(question, told[question.name]) for question in QUESTIONS]


def _finding(question: _Question, failures: list[Pair]) -> Finding:
    if not failures:
        return Finding(question.name, True, question.yes)
    remedies = dict.fromkeys(_remedy(question, (call, number)) for call, number in failures)
    return Finding(
        question.name,
        needed(question.every_job),
        "; ".join(failed(call, number) for call, number in failures),
        "; ".join(remedies),
    )


def _remedy(question: _Question, pair: Pair) -> str:
    if pair[0].startswith("not tried"):
        return "first: the namespace, above"
    return question.remedy(pair) if pair[1] else FORBIDDEN


def _lacking_call(pair: Pair) -> str:
    if pair[1] == errno.ENOSYS:
        return f"use Linux 5.14 or newer{_FILTER}"
    return FORBIDDEN


def _namespace(name: str) -> Callable[[Pair], str]:
    def remedy(pair: Pair) -> str:
        knob = f"user.max_{name}_namespaces"
        if pair[1] == errno.ENOSPC:
            return f"sysctl -w {knob}=65536, and the same in /etc/sysctl.d/jobsup.conf"
        if pair[1] == errno.EINVAL:
            options = {"cgroup": "CONFIG_CGROUPS", "mnt": "CONFIG_NAMESPACES"}
            return f"use a kernel with {options.get(name, f'CONFIG_{name.upper()}_NS')}=y"
        if name == "user" and pair[1] == errno.EPERM:
            return "leave the chroot, if this is one; else: " + FORBIDDEN
        return FORBIDDEN

    return remedy


def _file_system(option: str) -> Callable[[Pair], str]:
    def remedy(pair: Pair) -> str:
        call, number = pair
        if number == errno.ENODEV:
            return f"use a kernel with {option}=y"
        if number == errno.ENOSYS:
            return _lacking_call(pair)
        if call in ("fsconfig", "fsmount") and number == errno.EPERM:
            return (
                "a container hides parts of the host's own, so no other may be mounted: run on the "
                "host, or docker run --security-opt systempaths=unconfined (podman: unmask=ALL)"
            )
        return FORBIDDEN

    return remedy


def _root(pair: Pair) -> str:
    if pair[1] == errno.EINVAL:
        return (
            "the root directory must be a mount point other than the boot's own rootfs: for a "
            "chroot, mount --bind DIR DIR before chroot DIR; after an initramfs, switch_root"
        )
    return _lacking_call(pair)


def _device(pair: Pair) -> str:
    if pair[1] in (errno.EPERM, errno.EACCES):
        return "leave the user namespace or container that forbids devices, and hold CAP_MKNOD"
    return _lacking_call(pair)


def _seccomp(pair: Pair) -> str:
    if pair[1] in (errno.ENOSYS, errno.EINVAL):
        return f"use a kernel with CONFIG_SECCOMP_FILTER=y{_FILTER}"
    return FORBIDDEN


QUESTIONS = (
    *(
        _Question(f"namespace {name}", "can be made", _namespace(name))
        for name in ("pid", "mnt", "net", "uts", "ipc", "cgroup")
    ),
    _Question("namespace user", "can be made", _namespace("user"), every_job=False),
    _Question(
        "mount calls",
        "open_tree, mount_setattr, fsopen, move_mount, openat2, close_range",
        _lacking_call,
    ),
    *(
        _Question(f"file system {kind}", "can be mounted", _file_system(option))
        for kind, option in (
            ("tmpfs", "CONFIG_TMPFS"),
            ("proc", "CONFIG_PROC_FS"),
            ("sysfs", "CONFIG_SYSFS"),
            ("devpts", "CONFIG_UNIX98_PTYS"),
            ("mqueue", "CONFIG_POSIX_MQUEUE"),
        )
    ),
    _Question("device nodes", "can be made and opened", _device),
    _Question("root mount", "can be replaced (pivot_root)", _root),
    _Question("loopback", "can be brought up", lambda _: FORBIDDEN),
    _Question(
        "seccomp", "filters can be installed (jobs have none yet)", _seccomp, every_job=False
    ),
)
