"""Who waits for a file to grow is woken by inotify, of which the daemon has one instance.

A watch is armed for one event, by whoever has read to the end and is about to wait; the first
write fires it and it is gone. So a job that writes a million times while its followers are busy
costs no event, the kernel's queue cannot overflow, and a file without a waiting follower is not
watched. Under load wakings of one file are PAUSE apart, so that followers read in large pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncinotify import Inotify, Mask, Watch

PAUSE = 0.01  # seconds
_ONCE = Mask.MODIFY | Mask.ONESHOT


class Growing:
    """One file and who waits for it. Made by Growth."""

    def __init__(self, inotify: Inotify, path: Path) -> None:
        self.users = 0
        self._inotify = inotify
        self._path = path
        self._watch: Watch | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._woken_at = 0.0
        self._delayed: asyncio.TimerHandle | None = None

    def more(self) -> asyncio.Future[None]:
        """Resolves at the next write. Who was given it looks at the file once more before it
        waits: what was written up to now resolves nothing. It is everybody's: not to be cancelled.

        Raises:
            OSError: the kernel has no more watches.
        """
        if self._waiting is None:
            if self._delayed is None:
                self._watch = self._inotify.add_watch(self._path, _ONCE)
            self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def is_armed_by(self, watch: Watch | None) -> bool:
        """Whether this watch is the one that it waits with, and none of an earlier follower's."""
        return watch is not None and watch is self._watch

    def grown(self) -> None:
        """The armed event came."""
        self._watch = None
        loop = asyncio.get_running_loop()
        wait = self._woken_at + PAUSE - loop.time()
        if wait > 0:
            self._delayed = loop.call_later(wait, self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        self._delayed = None
        self._woken_at = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set_result(None)

    def forget(self) -> Watch | None:
        """Nobody uses it any more; the watch that is still armed is the caller's to remove."""
        if self._delayed is not None:
            self._delayed.cancel()
        watch, self._watch = self._watch, None
        return watch


class Growth:
    """The files of all followers of a daemon."""

    def __init__(self) -> None:
        self._inotify = Inotify(cache_size=64)
        self._files: dict[Path, Growing] = {}
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Wake nobody any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._inotify.close()

    @contextmanager
    def following(self, path: Path) -> Iterator[Growing]:
        """The file, for as long as the caller follows it."""
        growing = self._files.get(path)
        if growing is None:
            growing = self._files[path] = Growing(self._inotify, path)
        growing.users += 1
        try:
            yield growing
        finally:
            growing.users -= 1
            if not growing.users:
                del self._files[path]
                self._remove(growing.forget())

    def _remove(self, watch: Watch | None) -> None:
        if watch is None:
            return
        try:
            self._inotify.rm_watch(watch)
        except OSError:
            # It has fired and is gone, and its event is not read yet.
            return

    async def _listen(self) -> None:
        async for event in self._inotify:
            # The one event of an armed watch, or IGNORED, which tells that a watch is no more.
            growing = self._files.get(event.watch.path) if event.watch is not None else None
            if growing is not None and growing.is_armed_by(event.watch):
                growing.grown()
