"""Calls at times of day, by the kernel's own timer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from jobsup.supervisor.daemon.timers import WallClock

HOUR = 3600 * 10**9
SOON = 20 * 10**6
NEVER = 1 << 62


def with_clock(body: Callable[[WallClock], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = WallClock(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(60):
                await body(clock)
        finally:
            clock.close()

    asyncio.run(main())


class Calls:
    """What was called; `until` waits for so many."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._more = asyncio.Event()

    def of(self, name: str) -> Callable[[], None]:
        def call() -> None:
            self.made.append(name)
            self._more.set()

        return call

    async def until(self, count: int) -> list[str]:
        while len(self.made) < count:
            self._more.clear()
            await self._more.wait()
        return self.made


def test_calls_come_in_the_order_of_their_times_and_not_before() -> None:
    async def body(clock: WallClock) -> None:
        calls, now = Calls(), time.time_ns()
        for name, delay in (("c", 3), ("a", 1), ("b", 2), ("never", 10**6)):
            clock.call_at(name, now + delay * SOON, calls.of(name))
        assert await calls.until(3) == ["a", "b", "c"]
        assert time.time_ns() >= now + 3 * SOON

    with_clock(body)


@pytest.mark.parametrize("when", [0, 1, 10**18])
def test_what_has_passed_comes_at_once_but_not_within_the_call(when: int) -> None:
    async def body(clock: WallClock) -> None:
        calls = Calls()
        clock.call_at("past", when, calls.of("past"))
        assert calls.made == []
        assert await calls.until(1) == ["past"]

    with_clock(body)


def test_a_second_call_of_a_key_takes_the_place_of_the_first() -> None:
    async def body(clock: WallClock) -> None:
        calls, now = Calls(), time.time_ns()
        clock.call_at("job", now + SOON, calls.of("first"))
        clock.call_at("job", now + SOON, calls.of("second"))  # at the very same time
        clock.call_at("late", now + HOUR, calls.of("late"))
        clock.call_at("late", now + 2 * SOON, calls.of("sooner"))
        clock.call_at("end", now + 3 * SOON, calls.of("end"))
        assert await calls.until(3) == ["second", "sooner", "end"]

    with_clock(body)


def test_a_cancelled_call_does_not_come() -> None:
    async def body(clock: WallClock) -> None:
        calls, now = Calls(), time.time_ns()
        for name in "ab":
            clock.call_at(name, now + SOON, calls.of(name))
        clock.cancel("a")
        clock.cancel("nobody")
        assert await calls.until(1) == ["b"]

    with_clock(body)


def test_one_that_raises_does_not_keep_the_others_from_their_time() -> None:
    async def body(clock: WallClock) -> None:
        calls, now = Calls(), time.time_ns()
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))

        def bug() -> None:
            raise ValueError("a bug")

        clock.call_at("bug", now, bug)
        clock.call_at("job", now + 1, calls.of("job"))
        assert await calls.until(1) == ["job"]
        assert len(told) == 1

    with_clock(body)


def test_a_call_may_ask_for_the_next_one_or_close_the_clock() -> None:
    async def body(clock: WallClock) -> None:
        calls = Calls()

        def again() -> None:
            calls.of("first")()
            clock.call_at("job", time.time_ns() + 1, calls.of("second"))

        clock.call_at("job", 1, again)
        assert await calls.until(2) == ["first", "second"]
        clock.call_at("close", 1, clock.close)
        clock.call_at("told", 2, calls.of("told"))  # as due as the one before it
        clock.call_at("later", NEVER, calls.of("later"))
        assert await calls.until(3) == ["first", "second", "told"]
        clock.close()  # a second time

    with_clock(body)


def test_calls_that_were_cancelled_take_no_memory() -> None:
    async def body(clock: WallClock) -> None:
        calls = Calls()
        clock.call_at("kept", time.time_ns() + 5 * SOON, calls.of("kept"))
        for number in range(10_000):
            clock.call_at(str(number), NEVER - number, calls.of("never"))
            clock.cancel(str(number))
        assert len(clock._heap) < 200
        assert await calls.until(1) == ["kept"]

    with_clock(body)


def test_no_descriptor_is_left_open() -> None:
    async def body(clock: WallClock) -> None:
        clock.call_at("job", NEVER, Calls().of("job"))

    before = os.listdir("/proc/self/fd")
    with_clock(body)
    assert os.listdir("/proc/self/fd") == before
