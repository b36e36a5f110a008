"""What happens to jobs, told to listeners of different owners and speeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack
from typing import Any

from jobsup.supervisor.daemon.events import EventBus
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.protocol import Event

NOW = 1_800_000_000 * 10**9


def job(job_id: str, uid: int = 0, **fields: Any) -> Record:  # noqa: ANN401 - those of Record
    return Record(id=job_id, uid=uid, gid=0, queued_ns=1, **fields)


async def ids(events: AsyncIterator[Event]) -> list[str]:
    return [event.id async for event in events]


def run(body: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await body

    asyncio.run(main())


def test_an_event_tells_what_became_of_the_job() -> None:
    async def body() -> None:
        bus = EventBus()
        verdict = {"cause": "exited", "status": 3}
        ended = job("a", name="n", user="root", attempt=2, state=State.FAILED, reason="r")
        ended.verdict = verdict
        with bus.subscribe(None) as events:
            bus.publish(ended, NOW)
            ended.state = State.QUEUED  # what was told stays told
            assert await anext(events) == Event(
                time="2027-01-15T08:00:00.000000Z", id="a", name="n", user="root", attempt=2,
                state="failed", reason="r", cause="exited", status=3,
            )  # fmt: skip

    run(body())


def test_how_a_run_ended_is_told_at_its_end_and_not_of_the_next_one() -> None:
    async def body() -> None:
        bus = EventBus()
        again = job("a", attempt=1, state=State.RUNNING)
        told = []
        with bus.subscribe(None) as events:
            for state in (
                State.RUNNING, State.QUEUED, State.STARTING, State.RUNNING, State.PAUSED,
                State.STOPPING, State.STOPPED,
            ):  # fmt: skip
                if state is State.QUEUED:
                    again.attempt, again.verdict = 2, {"cause": "exited", "status": 1}
                if state is State.STOPPED:
                    again.verdict = {"cause": "stopped", "status": 143}
                again.state = state
                bus.publish(again, NOW)
                event = await anext(events)
                told.append((event.state, event.cause, event.status))
        assert told == [
            ("running", None, None),
            ("queued", "exited", 1),
            ("starting", None, None),
            ("running", None, None),
            ("paused", None, None),
            ("stopping", None, None),
            ("stopped", "stopped", 143),
        ]

    run(body())


def test_everything_from_the_subscription_on_and_nothing_before() -> None:
    async def body() -> None:
        bus = EventBus()
        bus.publish(job("before"), NOW)
        with bus.subscribe(None) as events:
            bus.publish(job("a"), NOW)  # before anybody has looked
            bus.publish(job("b"), NOW)
            bus.close()
            bus.publish(job("after"), NOW)
            assert await ids(events) == ["a", "b"]

    run(body())


def test_an_owner_hears_of_their_own_jobs_only() -> None:
    async def body() -> None:
        bus = EventBus()
        with ExitStack() as stack:
            listeners = {uid: stack.enter_context(bus.subscribe(uid)) for uid in (None, 1, 2)}
            for job_id, uid in (("a", 1), ("b", 2), ("c", 1), ("d", 0)):
                bus.publish(job(job_id, uid), NOW)
            bus.close()
            heard = {uid: await ids(events) for uid, events in listeners.items()}
        assert heard == {None: ["a", "b", "c", "d"], 1: ["a", "c"], 2: ["b"]}

    run(body())


def test_who_does_not_keep_up_is_dropped_alone() -> None:
    async def body() -> None:
        bus = EventBus()
        with bus.subscribe(None) as slow, bus.subscribe(None) as fast:
            for number in range(2500):
                bus.publish(job(str(number)), NOW)
                assert (await anext(fast)).id == str(number)
            missed = await ids(slow)
            assert missed == [str(number) for number in range(1000)]
            bus.close()
            assert await ids(fast) == []

    run(body())


def test_who_goes_away_is_forgotten() -> None:
    async def body() -> None:
        bus = EventBus()
        with bus.subscribe(None):
            assert len(bus._subscribers) == 1
        assert not bus._subscribers  # also who never listened
        with bus.subscribe(None) as events:
            bus.publish(job("a"), NOW)
            await anext(events)
        assert not bus._subscribers
        waiting = asyncio.create_task(_first(bus))
        await asyncio.sleep(0)
        assert len(bus._subscribers) == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not bus._subscribers

    run(body())


async def _first(bus: EventBus) -> Event:
    with bus.subscribe(None) as events:
        return await anext(events)
