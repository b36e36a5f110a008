"""The trials of `jobsup doctor`: a program of its own, started by walls.py and alone there.

Each trial does, in a forked child, what the init of a job does: it makes a namespace, a file
system, a root. All of it ends with the child; what is mounted is either detached or mounted where
no mount travels out, so nothing of the host changes. The program imports nothing of jobsup: it has
one thread, so it may fork, which a caller of the library may not.

It prints one JSON object: of each trial its failures, as pairs of the call and its errno (0 for
what is no call). An empty list is a success.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Failures = list[tuple[str, int]]

# Numbers that every architecture shares; linux/unistd.h.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 428, 429, 430, 431, 432
CLOSE_RANGE, OPENAT2, MOUNT_SETATTR = 436, 437, 442
PIVOT_ROOT, SECCOMP = {"x86_64": (155, 317), "aarch64": (41, 277)}.get(platform.machine(), (-1, -1))

NAMESPACES = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "user": 0x10000000,
}
# The file systems of a job, with the options that it gives them.
FILE_SYSTEMS = (
    ("tmpfs", ("mode=755", "size=64k", "nr_inodes=64")),
    ("proc", ()),
    ("sysfs", ()),
    ("devpts", ("ptmxmode=666", "mode=620", "gid=5")),
    ("mqueue", ()),
)

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
TREE_CLONE, MOVE_FROM_EMPTY, MOVE_TO_EMPTY = 1, 0x04, 0x40
CONFIG_STRING, CONFIG_CREATE = 1, 6
READ_ONLY = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class CallFailed(Exception):
    """A system call that a job needs has failed here."""

    def __init__(self, call: str, number: int) -> None:
        super().__init__(call, number)
        self.pair = (call, number)


def checked(call: str, result: int) -> int:
    if result < 0:
        raise CallFailed(call, ctypes.get_errno())
    return result


def system_call(
    call: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]
) -> int:
    """syscall(2) with numbers at their full width, strings and buffers."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(call, libc.syscall(ctypes.c_long(number), *wide))


def unshare(name: str) -> None:
    checked("unshare", libc.unshare(NAMESPACES[name]))


def new_file_system(kind: str, options: tuple[str, ...]) -> int:
    """A mount that is attached nowhere, as the init makes it."""
    context = system_call("fsopen", FSOPEN, kind.encode(), 1)
    for option in options:
        key, _, value = option.partition("=")
        words = (key.encode() + b"\0", value.encode() + b"\0")
        system_call("fsconfig", FSCONFIG, context, CONFIG_STRING, *words, 0)
    system_call("fsconfig", FSCONFIG, context, CONFIG_CREATE, 0, 0, 0)
    return system_call("fsmount", FSMOUNT, context, 1, 0)


def set_read_only(mount: int) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("=4Q", READ_ONLY, 0, 0, 0), 32)
    flags = AT_EMPTY_PATH | AT_RECURSIVE
    system_call("mount_setattr", MOUNT_SETATTR, mount, b"", flags, attributes, 32)


@contextmanager
def named(call: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CallFailed(call, error.errno or 0) from error


# --- the trials -----------------------------------------------------------------------------------


def namespace(name: str) -> Callable[[], None]:
    return lambda: unshare(name)


def file_system(kind: str, options: tuple[str, ...]) -> Callable[[], None]:
    def trial() -> None:
        os.close(new_file_system(kind, options))

    return trial


def mount_calls() -> Failures:
    """Each call by itself, on what is nobody's: a detached tree, descriptors and names that are
    none."""
    rule = ctypes.create_string_buffer(struct.pack("=3Q", os.O_PATH, 0, 0x10), 24)
    both_empty = MOVE_FROM_EMPTY | MOVE_TO_EMPTY
    attempts: list[Callable[[], object]] = [
        open_tree,
        lambda: set_read_only(-1),
        lambda: system_call("fsopen", FSOPEN, 0, 1),
        lambda: system_call("fsconfig", FSCONFIG, -1, CONFIG_CREATE, 0, 0, 0),
        lambda: system_call("fsmount", FSMOUNT, -1, 1, 0),
        lambda: system_call("move_mount", MOVE_MOUNT, -1, b"", -1, b"", both_empty),
        lambda: system_call("openat2", OPENAT2, AT_FDCWD, b"/", rule, 24),
        lambda: system_call("close_range", CLOSE_RANGE, 1000, 1000, 0),
    ]
    failures = []
    for attempt in attempts:
        try:
            attempt()
        except CallFailed as error:
            # These mean that the call is there, and has looked at what it was given.
            if error.pair[1] not in (errno.EBADF, errno.EINVAL, errno.EFAULT):
                failures.append(error.pair)
    return failures


def open_tree() -> int:
    return system_call("open_tree", OPEN_TREE, AT_FDCWD, b"/", TREE_CLONE | AT_RECURSIVE)


def root_mount() -> None:
    """The way of every job to its own root."""
    checked("mount", libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    tree = open_tree()
    system_call("move_mount", MOVE_MOUNT, tree, b"", AT_FDCWD, b"/", MOVE_FROM_EMPTY)
    with named("fchdir"):
        os.fchdir(tree)
    system_call("pivot_root", PIVOT_ROOT, b".", b".")


def devices() -> None:
    root = new_file_system("tmpfs", ())
    with named("mknod /dev/null"):
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
    with named("open /dev/null"):  # in a user namespace the node is made, and no device
        os.close(os.open("null", os.O_RDONLY, dir_fd=root))


def loopback() -> None:
    request = struct.pack("16sh22x", b"lo", 1)  # struct ifreq with IFF_UP; netdevice(7)
    with named("SIOCSIFFLAGS lo"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, request)


def seccomp() -> None:
    """A filter that lets everything through, for this child."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    allow = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET, SECCOMP_RET_ALLOW
    program = Program(1, allow)
    no_new_privs, set_mode_filter = 38, 1
    checked("prctl", libc.prctl(no_new_privs, 1, 0, 0, 0))
    checked("seccomp", libc.syscall(SECCOMP, set_mode_filter, 0, ctypes.byref(program)))


# What is tried together in one child: the namespaces that it must be in, or it would touch the
# host's, and the trials by their names.
Group = tuple[tuple[str, ...], dict[str, Callable[[], Failures | None]]]
GROUPS: tuple[Group, ...] = (
    # last the user namespace: in it the others are no longer root's
    ((), {f"namespace {name}": namespace(name) for name in NAMESPACES}),
    (
        ("pid", "net", "ipc"),
        {f"file system {kind}": file_system(kind, options) for kind, options in FILE_SYSTEMS},
    ),
    (("mnt", "net"), {"mount calls": mount_calls, "device nodes": devices, "loopback": loopback}),
    (("mnt",), {"root mount": root_mount}),
    ((), {"seccomp": seccomp}),
)


def one(trial: Callable[[], Failures | None]) -> Failures:
    try:
        return trial() or []
    except CallFailed as error:
        return [error.pair]


def results(group: Group) -> dict[str, Failures]:
    """Try a group in a child that is gone afterwards, with whatever it made."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tell(group, writing)
        finally:
            os._exit(0)  # whatever happened: there is one program, and it is the parent
    os.close(writing)
    told: dict[str, Failures] = {}
    with open(reading, "rb") as pipe:
        for name, pairs in map(json.loads, pipe):
            told[name] = [(call, number) for call, number in pairs]
    os.waitpid(child, 0)
    return {name: told.get(name, [("killed, as a seccomp filter may do", 0)]) for name in group[1]}


def tell(group: Group, pipe: int) -> None:
    """In the child: a line of JSON for each trial, as it ends."""
    namespaces, trials = group
    lacking = [name for name in namespaces if one(namespace(name))]
    if "pid" in namespaces and not lacking and (first := os.fork()) != 0:
        os.waitpid(first, 0)  # only a child is in the new pid namespace
        return
    untried = [(f"not tried without a {name} namespace", 0) for name in lacking]
    for name, trial in trials.items():
        os.write(pipe, json.dumps([name, untried or one(trial)]).encode() + b"\n")


def main() -> None:
    found: dict[str, Failures] = {}
    for group in GROUPS:
        found |= results(group)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
