"""Makes the system calls by which a process leaves its walls or changes them. Prints the outcome of
each: "done" or an errno's name.
"""

import ctypes
import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable
from functools import partial

libc = ctypes.CDLL(None, use_errno=True)
NAMESPACES = {
    "mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SHARED = 1, 32, 4096, 16384, 1 << 20
OPEN_TREE_CLONE, RB_DISABLE_CAD = 1, 0


def call(name: str, *arguments: object) -> None:
    """One of the C library's functions; a failure is an OSError."""
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def mount(source: bytes, target: bytes, kind: bytes, flags: int) -> None:
    call("mount", source, target, kind, flags, None)


def remount(target: bytes) -> None:
    """Writable: only the bind's own flag, which needs no right over the file system."""
    mount(b"none", target, b"", MS_REMOUNT | MS_BIND)


def make_writable(target: bytes) -> None:
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # clear MOUNT_ATTR_RDONLY
    call("mount_setattr", -100, target, 0x8000, attributes, 32)


def by_handle() -> None:
    """Open a file of the root's by a guessed handle, as in the "shocker" exploit."""
    handle = (ctypes.c_uint32 * 6)(8, 1, 2, 0, 0, 0)
    root = os.open("/", os.O_RDONLY)
    call("open_by_handle_at", root, handle, 0)


def own_namespace(name: str) -> None:
    file = "pid_for_children" if name == "pid" else name
    call("setns", os.open(f"/proc/self/ns/{file}", os.O_RDONLY), NAMESPACES[name])


def device() -> None:
    os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0))


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


SEALED = (b"/", b"/proc/sys", b"/sys", b"/sys/fs/cgroup", b"/dev", b"/var/lib/jobsup")
COVERING = (b"/", b"/proc", b"/proc/kcore", b"/proc/sys", b"/tmp", b"/var/lib/jobsup")
ATTEMPTS: dict[str, Callable[[], object]] = {
    "mount a tmpfs": partial(mount, b"none", b"/tmp", b"tmpfs", 0),
    "mount a procfs": partial(mount, b"none", b"/tmp", b"proc", 0),
    "mount a cgroup2": partial(mount, b"none", b"/tmp", b"cgroup2", 0),
    "bind /": partial(mount, b"/", b"/tmp", b"", MS_BIND | MS_REC),
    "share /": partial(mount, b"none", b"/", b"", MS_SHARED),
    **{f"remount {path.decode()} writable": partial(remount, path) for path in SEALED},
    **{f"set {path.decode()} writable": partial(make_writable, path) for path in SEALED},
    **{f"unmount {path.decode()}": partial(call, "umount2", path, 2) for path in COVERING},
    "clone /": partial(call, "open_tree", -100, b"/", OPEN_TREE_CLONE | 0x8000),
    "open a file system": partial(call, "fsopen", b"tmpfs", 0),
    "reconfigure /": partial(call, "fspick", -100, b"/", 0),
    "pivot_root": partial(call, "pivot_root", b"/tmp", b"/tmp"),
    "chroot": partial(os.chroot, "/tmp"),
    **{f"unshare {name}": partial(call, "unshare", flag) for name, flag in NAMESPACES.items()},
    **{f"setns {name}": partial(own_namespace, name) for name in NAMESPACES},
    "make a disk": device,
    "open by handle": by_handle,
    "set the host name": partial(socket.sethostname, "host"),
    "set the clock": partial(time.clock_settime, time.CLOCK_REALTIME, 0),
    "set the time": partial(call, "settimeofday", (ctypes.c_long * 2)(0, 0), None),
    "reboot": partial(call, "reboot", RB_DISABLE_CAD),
    "swap": partial(call, "swapon", b"/tmp", 0),
    "account": partial(call, "acct", None),
    "raise nice": partial(os.setpriority, os.PRIO_PROCESS, 0, -1),
    "be real-time": partial(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    "open a raw socket": raw_socket,
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


json.dump({name: outcome(attempt) for name, attempt in ATTEMPTS.items()}, sys.stdout)
