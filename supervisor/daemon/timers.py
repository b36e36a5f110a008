"""When queued jobs become due. Durations run on the monotonic clock and do not notice when the wall
clock is set; times of day follow the wall clock, also when it jumps.

The loop's own timers are monotonic. For times of day the kernel wakes us: a timerfd on
CLOCK_REALTIME with an absolute time, which expires when that clock is set beyond it and goes on
waiting when it is set back (timerfd_create(2)). Python has no call for it before 3.13.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress

_TFD_CLOEXEC, _TFD_NONBLOCK = 0o2000000, 0o4000
_ABSTIME = 1
_STALE_MAX = 100  # cancelled calls that are not worth a look at all others
_ITIMERSPEC = struct.Struct("=4q")


class WallClock:
    """Calls back at times of day, in nanoseconds of CLOCK_REALTIME; each at most once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._heap: list[tuple[int, str]] = []
        self._calls: dict[str, tuple[int, Callable[[], None]]] = {}
        self._descriptor = self._libc.timerfd_create(
            time.CLOCK_REALTIME, _TFD_CLOEXEC | _TFD_NONBLOCK
        )
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        loop.add_reader(self._descriptor, self._woken)

    def call_at(self, key: str, when_ns: int, call: Callable[[], None]) -> None:
        """Call it then, or at once when the time has passed; a call of the same key is replaced."""
        self._calls[key] = (when_ns, call)
        heapq.heappush(self._heap, (when_ns, key))
        self._arm()

    def cancel(self, key: str) -> None:
        """Do not make this call. What is left of it goes when its time comes, or with others."""
        self._calls.pop(key, None)
        if len(self._heap) > 2 * len(self._calls) + _STALE_MAX:
            self._heap = [(when, key) for key, (when, _) in self._calls.items()]
            heapq.heapify(self._heap)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _arm(self) -> None:
        while self._heap and self._is_stale(self._heap[0]):
            heapq.heappop(self._heap)
        when = max(self._heap[0][0], 1) if self._heap else 0  # all zero disarms it
        value = _ITIMERSPEC.pack(0, 0, when // 10**9, when % 10**9)
        if self._libc.timerfd_settime(self._descriptor, _ABSTIME, value, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _is_stale(self, entry: tuple[int, str]) -> bool:
        when, key = entry
        return self._calls.get(key, (None,))[0] != when

    def _woken(self) -> None:
        with suppress(BlockingIOError):  # it was armed anew meanwhile
            os.read(self._descriptor, 8)
        now = time.time_ns()
        try:
            while self._heap and self._heap[0][0] <= now:
                entry = heapq.heappop(self._heap)
                if not self._is_stale(entry):
                    _, call = self._calls.pop(entry[1])
                    call()
        finally:  # one that raises does not keep the others from their time
            if self._descriptor >= 0:
                self._arm()
