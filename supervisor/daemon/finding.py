"""Which job somebody means, and which ones they may see.

Root sees all; anyone else their own. Somebody else's job answers exactly as one that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobsup.isolation import show

from ..errors import Ambiguous, BadValue, NoSuchJob
from ..protocol import JobPage
from . import views
from .job import LiveJob
from .records import Record
from .state import ENDED, State
from .store import Store

if TYPE_CHECKING:
    from .peer import Peer

PAGE_MAX = 1000
_PREFIX_LEAST = 3  # characters; what the store takes for the beginning of an id
_CANDIDATES = 2  # that are shown; the store finds one more
_TOO_SHORT = f"of an id give the first {_PREFIX_LEAST} characters or more; jobsup ls --all has them"


def sees(peer: Peer) -> int | None:
    """The owner whose jobs this peer sees; None: everybody's."""
    return None if peer.uid == 0 else peer.uid


class Finder:
    """Looks jobs up, the unfinished ones where they live."""

    def __init__(self, store: Store, live: Mapping[str, LiveJob]) -> None:
        self._store = store
        self._live = live

    async def find(self, ref: str, peer: Peer) -> Record:
        """The job of this id; else the one of this name, an unfinished one before ended ones, and
        of ended ones the newest; else the one whose id begins so.

        Raises:
            NoSuchJob, Ambiguous
        """
        uid = sees(peer)
        job = self._live.get(ref)
        if job is not None and uid in (None, job.record.uid):
            return job.record
        found = [await self._present(row) for row in await self._store.matching(ref, uid)]
        if not found:
            hint = _TOO_SHORT if len(ref) < _PREFIX_LEAST else None
            raise NoSuchJob(f"there is no job {_shown(ref)}", hint=hint)
        named = found[0].name == ref
        unfinished = [record for record in found if record.id in self._live]
        if len(found) == 1 or (named and len(unfinished) <= 1):
            return found[0]
        raise _ambiguous(ref, unfinished if named else found, named=named)

    async def _present(self, row: Record) -> Record:
        """The job as it is now: it may have ended, and been let go of, since its row was read."""
        live = self._live.get(row.id)
        if live is not None:
            return live.record
        if row.state in ENDED:
            return row
        return await self._store.get(row.id) or row

    async def page(
        self, peer: Peer, *, state: str | None, name: str | None, limit: int, after: str | None
    ) -> JobPage:
        """Newest first.

        Raises:
            BadValue: a state or a cursor that is none.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise BadValue(
                "limit", limit, "is out of range", f"a whole number from 1 to {PAGE_MAX}"
            )
        if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 19):
            raise BadValue("after", after, "is no cursor", "the `next` of another page")
        rows = await self._store.page(
            sees(peer), _state(state), name, limit + 1, int(after) if after else None
        )
        shown = [views.summary(await self._present(row)) for row in rows[:limit]]
        return JobPage(shown, str(rows[limit - 1].seq) if len(rows) > limit else None)


def _ambiguous(ref: str, several: list[Record], *, named: bool) -> Ambiguous:
    ids = ", ".join(record.id for record in several[:_CANDIDATES])
    more = ", …" if len(several) > _CANDIDATES else ""
    if named:
        message = f"{_shown(ref)} is the name of several jobs that have not ended"
        return Ambiguous(f"{message}: {ids}{more}", hint="name one by its id")
    message = f"several jobs have an id that begins with {_shown(ref)}"
    return Ambiguous(f"{message}: {ids}{more}", hint="give more of the id, or a name")


def _shown(ref: str) -> str:
    return show(ref.encode(errors="replace")[:100])


def _state(name: str | None) -> State | None:
    try:
        return None if name is None else State(name)
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise BadValue("state", name, "is no state", f"one of {known}") from None
