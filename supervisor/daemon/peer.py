"""Who is at the other end of a Unix socket. The kernel says so, of the moment of connect(2): a
number that a client sends, and a pid, prove nothing."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from ..errors import QuotaExceeded

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for it
_GID = ctypes.sizeof(ctypes.c_uint32)
# The kernel's own most is 65,536, which every record of a job would have to keep.
GROUPS_MOST = 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Peer(NamedTuple):
    """The credentials of a connection. `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    pid: int  # to show, never to authorise by

    @property
    def is_root(self) -> bool:
        return self.uid == 0


class TooManyGroups(QuotaExceeded):
    """Whoever connected is in more groups than GROUPS_MOST.

    Attributes:
        peer: the rest of the credentials; for the counting only, never to act for.
    """

    def __init__(self, count: int, peer: Peer) -> None:
        what = f"you are in {count} supplementary groups, and {GROUPS_MOST} is the most"
        super().__init__(what, hint="leave some, and call again")
        self.peer = peer


def peer_of(connection: socket.socket) -> Peer:
    """The credentials of whoever connected.

    Raises:
        TooManyGroups: they cannot be told all.
        OSError: it is no connected Unix socket.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    count, groups = _groups(connection)
    peer = Peer(uid, gid, groups, pid)
    if count > len(groups):
        raise TooManyGroups(count, peer)
    return peer


def _groups(connection: socket.socket) -> tuple[int, tuple[int, ...]]:
    """How many groups there are, and the groups unless they are too many.

    Not by socket.getsockopt(), which has room for 256 at most. With ERANGE the kernel says how much
    room it takes.
    """
    raw = ctypes.create_string_buffer(_GID * GROUPS_MOST)
    size = ctypes.c_uint32(len(raw))
    failed = _libc.getsockopt(
        connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, raw, ctypes.byref(size)
    )
    if not failed:
        return size.value // _GID, tuple(array.array("I", raw.raw[: size.value]))
    number = ctypes.get_errno()
    if number != errno.ERANGE:
        raise OSError(number, os.strerror(number))
    return size.value // _GID, ()
