"""What happens to jobs, told to whoever listens. A listener that does not keep up is dropped, and
told so by the end of its stream: nobody else waits for it, and nothing is kept for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from ..protocol import Event
from ..verdict import rfc3339
from .records import Record
from .state import ENDED, State

_BACKLOG = 1000
# In which a record's verdict is news; in all others it is on a run that was told of before.
_TELL_AN_END = ENDED | {State.QUEUED}


class _Subscriber:
    def __init__(self, uid: int | None) -> None:
        self.uid = uid
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG + 1)


class EventBus:
    """One a daemon."""

    def __init__(self) -> None:
        self._subscribers: set[_Subscriber] = set()

    def publish(self, record: Record, now_ns: int) -> None:
        """Tell what became of a job."""
        if not self._subscribers:
            return
        verdict = (record.verdict if record.state in _TELL_AN_END else None) or {}
        event = Event(
            time=rfc3339(now_ns) or "",
            id=record.id,
            name=record.name,
            user=record.user,
            attempt=record.attempt,
            state=record.state.value,
            reason=record.reason,
            cause=verdict.get("cause"),
            status=verdict.get("status"),
        )
        for subscriber in list(self._subscribers):
            if subscriber.uid is None or subscriber.uid == record.uid:
                self._hand(subscriber, event)

    def _hand(self, subscriber: _Subscriber, event: Event) -> None:
        if subscriber.queue.qsize() >= _BACKLOG:
            self._end(subscriber)
        else:
            subscriber.queue.put_nowait(event)

    def _end(self, subscriber: _Subscriber) -> None:
        if subscriber in self._subscribers:
            self._subscribers.discard(subscriber)
            subscriber.queue.put_nowait(None)  # there is room for it: the backlog is one less

    def close(self) -> None:
        """End every stream."""
        for subscriber in list(self._subscribers):
            self._end(subscriber)

    @contextmanager
    def subscribe(self, uid: int | None) -> Iterator[AsyncIterator[Event]]:
        """Every event from this call on of this owner's jobs, of all jobs for None. Ends when the
        bus does, or when the listener has fallen behind."""
        subscriber = _Subscriber(uid)
        self._subscribers.add(subscriber)
        try:
            yield _events(subscriber)
        finally:
            self._subscribers.discard(subscriber)


async def _events(subscriber: _Subscriber) -> AsyncIterator[Event]:
    while (event := await subscriber.queue.get()) is not None:
        yield event
