"""How long ended jobs are kept, and what else goes when they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..protocol import PruneRequest
from ..units import parse_duration
from .finding import sees
from .log import log
from .state import State

if TYPE_CHECKING:
    from .peer import Peer
    from .store import Store

_AT_LEAST, _AT_MOST = 60.0, 3600.0  # seconds between two looks
_AT_ONCE = 500  # jobs that are forgotten in one go


class Retention:
    """Forgets jobs that ended longer ago than `keep_usec`."""

    def __init__(
        self, store: Store, forget: Callable[[list[str]], Awaitable[None]], keep_usec: int
    ) -> None:
        self._store = store
        self._forget_jobs = forget
        self._keep_usec = keep_usec
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause = min(max(self._keep_usec / 1e6 / 10, _AT_LEAST), _AT_MOST)
        while True:
            before = time.time_ns() - self._keep_usec * 1000
            try:
                await self._forget(await self._store.ended_before(before))
            except Exception as error:  # noqa: BLE001 - the next look may find a better disk
                log.error("old jobs cannot be removed", error=error)
            await asyncio.sleep(pause)

    async def prune(self, peer: Peer, asked: PruneRequest) -> list[str]:
        """Forget this peer's jobs that ended at least `older` ago; their ids.

        Raises:
            BadValue: `older` is no duration.
        """
        older = parse_duration("older", asked.older, 0)
        state = None if asked.state is None else State(asked.state)
        before = time.time_ns() - older * 1000
        ids = await self._store.ended_before(before, state, sees(peer))
        await self._forget(ids)
        return ids

    async def _forget(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE):
            await self._forget_jobs(ids[start : start + _AT_ONCE])
