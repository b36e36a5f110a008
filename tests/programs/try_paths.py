"""try_paths.py VERB PATH…: tries one thing on every path. Prints for each what came of it: an
errno's name, or "=" and what was found.

read    the beginning of a file, or the names in a directory
write   a file opened to write, or a new file made in a directory
chmod   its mode set to what it is
connect to the Unix socket there
mode    its type and permissions
size    of the file system, in bytes
"""

import errno
import json
import os
import socket
import stat
import sys


def read(path: str) -> str:
    if os.path.isdir(path):
        return " ".join(sorted(os.listdir(path)))
    with open(path, "rb") as file:
        return file.read(4096).decode(errors="replace")


def write(path: str) -> str:
    if os.path.isdir(path):
        path = f"{path}/new"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(path)
    else:
        os.close(os.open(path, os.O_WRONLY))
    return ""


def chmod(path: str) -> str:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
    return ""


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return client.recv(4096).decode()


def mode(path: str) -> str:
    return stat.filemode(os.lstat(path).st_mode)


def size(path: str) -> str:
    found = os.statvfs(path)
    return str(found.f_blocks * found.f_frsize)


def outcome(verb: str, path: str) -> str:
    try:
        return "=" + VERBS[verb](path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


VERBS = {verb.__name__: verb for verb in (read, write, chmod, connect, mode, size)}
json.dump({path: outcome(sys.argv[1], path) for path in sys.argv[2:]}, sys.stdout)
