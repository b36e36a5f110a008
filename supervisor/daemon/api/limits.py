"""How much of the server its clients may have at once: connections, and answers that last.

Nobody locks anybody else out: an owner has at most half of the connections, and the last tenth is
for root, who wants to look at what goes on then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import QuotaExceeded
from ..peer import Peer
from .refusals import Refusal

# A connection that is followed has two descriptors of its own; and the engine needs some for jobs.
_DESCRIPTORS_EACH = 4


class Limits:
    """Counts, and says no."""

    def __init__(self, connections: int, followers: int, descriptors: int) -> None:
        self._most = max(1, min(connections, descriptors // _DESCRIPTORS_EACH))
        self._most_followers = followers
        self._connections: Counter[int] = Counter()
        self._most_refused = max(2, self._most // 20)
        self._refused: Counter[int] = Counter()
        self._followers: Counter[int] = Counter()

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._connections.total()

    @property
    def followers(self) -> int:
        """How many answers there are that last."""
        return self._followers.total()

    def enter(self, peer: Peer) -> Refusal | None:
        """Count a connection, or say why not."""
        present = self.connections
        own, most = self._connections[peer.uid], self._most
        full = present >= most
        if not peer.is_root:
            full = full or present >= most - most // 10 or own >= max(1, most // 2)
        if full:
            return Refusal("overloaded", f"there are {present} connections", hint="try again")
        self._connections[peer.uid] += 1
        return None

    def leave(self, peer: Peer) -> None:
        """A counted connection is closed."""
        _less(self._connections, peer.uid)

    def wait_to_be_refused(self, peer: Peer) -> bool:
        """Whether a connection that is not let in may stay until it asks for something; counted
        then."""
        if self._refused.total() >= self._most_refused:
            return False
        if not peer.is_root and self._refused[peer.uid] >= self._most_refused // 2:
            return False
        self._refused[peer.uid] += 1
        return True

    def was_refused(self, peer: Peer) -> None:
        """One that waited is closed."""
        _less(self._refused, peer.uid)

    @contextmanager
    def following(self, peer: Peer) -> Iterator[None]:
        """An answer that lasts.

        Raises:
            QuotaExceeded: this owner has too many.
        """
        own = self._followers[peer.uid]
        if not peer.is_root and own >= self._most_followers:
            raise QuotaExceeded(f"you follow {own} things, and that is the most")
        self._followers[peer.uid] += 1
        try:
            yield
        finally:
            _less(self._followers, peer.uid)


def _less(counts: Counter[int], uid: int) -> None:
    counts[uid] -= 1
    if not counts[uid]:
        del counts[uid]
