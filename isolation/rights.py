"""Looking at the paths of somebody who is not root, as they would.

Root sees through every directory: a path that a user names must not be followed with root's rights,
or it leads behind a 0700 directory, and every answer tells what lies there. So the calling thread,
and no other, takes the user's file system ids and groups and gives up its capabilities for as long
as it looks (credentials(7), capabilities(7): "Effect of user ID changes on capabilities").

The kernel clears the process' dumpable attribute with that, as for any change of ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import LaunchFailed
from .shim import give_back_rights, take_rights
from .walls import Identity


@contextmanager
def looking_as(owner: Identity | None) -> Iterator[None]:
    """Within the block this thread looks at files as `owner`; None: as it always does.

    Raises:
        LaunchFailed: the process may not change its ids.
    """
    if owner is None:
        yield
        return
    try:
        kept = take_rights(owner.uid, owner.gid, owner.groups)
    except OSError as error:
        raise LaunchFailed(f"looking at paths as uid {owner.uid}", error.errno) from error
    try:
        yield
    finally:
        give_back_rights(kept)
