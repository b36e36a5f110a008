"""Who is at the other end of a Unix socket. The kernel says so, of the moment of connect(2): a
number that a client sends, and a pid, prove nothing."""

from __future__ import annotations

import array
import errno
import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for it
_GROUPS_AT_FIRST = 64
_GROUPS_MAX = 65536  # NGROUPS_MAX


class Peer(NamedTuple):
    """The credentials of a connection. `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    pid: int  # to show, never to authorise by

    @property
    def is_root(self) -> bool:
        return self.uid == 0


def peer_of(connection: socket.socket) -> Peer:
    """The credentials of whoever connected.

    Raises:
        OSError: it is no connected Unix socket.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(uid, gid, _groups(connection), pid)


def _groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        raw = _peer_groups(connection, _GROUPS_AT_FIRST)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raw = _peer_groups(connection, _GROUPS_MAX)
    groups = array.array("I", raw)
    return tuple(groups)


def _peer_groups(connection: socket.socket, most: int) -> bytes:
    return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * most)
