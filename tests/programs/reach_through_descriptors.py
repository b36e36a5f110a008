"""Tries to get from the descriptors that it was given to files that it was not: what is open, and
for each descriptor which attempts succeeded.
"""

import fcntl
import json
import os
import stat
import sys
import termios
from collections.abc import Callable


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def opened() -> dict[int, str]:
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(4096) if is_open(fd)}


def push_character(fd: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSTI, b"x")


def attempts(fd: int) -> dict[str, Callable[[], object]]:
    link = f"/proc/self/fd/{fd}"
    return {
        "open a file below it": lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=fd),
        "open a file above it": lambda: os.open("../../etc/passwd", os.O_RDONLY, dir_fd=fd),
        "make it the working directory": lambda: os.fchdir(fd),
        "list it": lambda: os.listdir(fd),
        "open a file through its link": lambda: os.open(f"{link}/etc/passwd", os.O_RDONLY),
        "create a file through its link": lambda: os.open(f"{link}/new", os.O_CREAT | os.O_WRONLY),
        "truncate it": lambda: os.ftruncate(fd, 0),
        "truncate what its link leads to": lambda: os.truncate(link, 0),
        "map it": lambda: os.pread(fd, 1, 0),
        "type into its terminal (CVE-2017-5226)": lambda: push_character(fd),
        "learn the name of its terminal": lambda: os.ttyname(fd),
    }


def succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def main() -> None:
    found = opened()
    reached = {
        fd: [name for name, attempt in attempts(fd).items() if succeeds(attempt)] for fd in found
    }
    kinds = {fd: stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in found}
    json.dump({"links": found, "reached": reached, "pipes": kinds}, sys.stdout)


main()
