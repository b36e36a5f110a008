"""Attacks PID 1, the init of its job, in every way that needs no bug: reads it, traces it, takes
its descriptors, changes what it may do. Prints each outcome, "done" or an errno's name.
"""

import ctypes
import errno
import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial

libc = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438  # on every architecture
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


def call(*arguments: int) -> None:
    """A raw system call; a failure is an OSError."""
    if libc.syscall(*(ctypes.c_long(argument) for argument in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")


def trace(request: int) -> None:
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    if libc.ptrace(request, 1, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "")


def take_descriptor(number: int) -> None:
    call(PIDFD_GETFD, os.pidfd_open(1), number, 0)


def read_memory() -> None:
    buffer = ctypes.create_string_buffer(16)
    part = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    there = (ctypes.c_void_p * 2)(0x400000, 16)
    if libc.process_vm_readv(1, part, 1, there, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def limit(number: int) -> None:
    resource.prlimit(1, number, (1, 1))


READ = "mem environ maps auxv pagemap stack syscall io smaps fdinfo/0".split()
FOLLOWED = "exe root cwd fd/0 fd/1 fd/2 fd/3 ns/mnt ns/pid".split()
ATTEMPTS: dict[str, Callable[[], object]] = {
    **{f"read /proc/1/{name}": partial(read, f"/proc/1/{name}") for name in READ},
    **{f"follow /proc/1/{name}": partial(os.stat, f"/proc/1/{name}/") for name in FOLLOWED},
    **{f"resolve /proc/1/{name}": partial(os.readlink, f"/proc/1/{name}") for name in FOLLOWED},
    "list /proc/1/map_files": partial(os.listdir, "/proc/1/map_files"),
    "leave through /proc/1/root": partial(os.listdir, "/proc/1/root/.."),
    "write /proc/1/mem": partial(os.open, "/proc/1/mem", os.O_RDWR),
    "write the program behind /proc/1/exe": partial(os.open, "/proc/1/exe", os.O_WRONLY),
    "PTRACE_ATTACH": partial(trace, PTRACE_ATTACH),
    "PTRACE_SEIZE": partial(trace, PTRACE_SEIZE),
    "process_vm_readv": read_memory,
    **{f"pidfd_getfd {number}": partial(take_descriptor, number) for number in range(12)},
    "take away its descriptors": partial(limit, resource.RLIMIT_NOFILE),
    "let it be killed for its CPU time": partial(limit, resource.RLIMIT_CPU),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


json.dump({name: outcome(attempt) for name, attempt in ATTEMPTS.items()}, sys.stdout)
