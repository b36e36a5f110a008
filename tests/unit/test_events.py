"""What happens to jobs, told to listeners of different owners and speeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from jobsup.supervisor.daemon.events import EventBus
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.protocol import Event

NOW = 1_800_000_000 * 10**9


def job(job_id: str, uid: int = 0, **fields: Any) -> Record:  # noqa: ANN401 - those of Record
    return Record(id=job_id, uid=uid, gid=0, queued_ns=1, **fields)


async def ids(events: AsyncGenerator[Event, None]) -> list[str]:
    return [event.id async for event in events]


def run(body: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await body

    asyncio.run(main())


def test_an_event_tells_what_became_of_the_job() -> None:
    async def body() -> None:
        bus = EventBus()
        events = bus.subscribe(None)
        verdict = {"cause": "exited", "status": 3}
        ended = job("a", name="n", user="root", attempt=2, state=State.FAILED, reason="r")
        ended.verdict = verdict
        bus.publish(ended, NOW)
        ended.state = State.QUEUED  # what was told stays told
        assert await anext(events) == Event(
            time="2027-01-15T08:00:00.000000Z", id="a", name="n", user="root", attempt=2,
            state="failed", reason="r", cause="exited", status=3,
        )  # fmt: skip
        await events.aclose()

    run(body())


def test_everything_from_the_subscription_on_and_nothing_before() -> None:
    async def body() -> None:
        bus = EventBus()
        bus.publish(job("before"), NOW)
        events = bus.subscribe(None)
        bus.publish(job("a"), NOW)  # before anybody has looked
        bus.publish(job("b"), NOW)
        bus.close()
        bus.publish(job("after"), NOW)
        assert await ids(events) == ["a", "b"]

    run(body())


def test_an_owner_hears_of_their_own_jobs_only() -> None:
    async def body() -> None:
        bus = EventBus()
        listeners = {uid: bus.subscribe(uid) for uid in (None, 1, 2)}
        for job_id, uid in (("a", 1), ("b", 2), ("c", 1), ("d", 0)):
            bus.publish(job(job_id, uid), NOW)
        bus.close()
        heard = {uid: await ids(events) for uid, events in listeners.items()}
        assert heard == {None: ["a", "b", "c", "d"], 1: ["a", "c"], 2: ["b"]}

    run(body())


def test_who_does_not_keep_up_is_dropped_alone() -> None:
    async def body() -> None:
        bus = EventBus()
        slow, fast = bus.subscribe(None), bus.subscribe(None)
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
        events = bus.subscribe(None)
        bus.publish(job("a"), NOW)
        await anext(events)
        await events.aclose()
        assert not bus._subscribers
        waiting = asyncio.create_task(anext(bus.subscribe(None)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not bus._subscribers

    run(body())
