"""A look at the host costs some processes: however many ask, it is taken once in a while."""

from __future__ import annotations

import asyncio
import threading

import pytest

from jobsup.supervisor.daemon.api import host
from jobsup.supervisor.protocol import Doctor


def test_who_asks_at_once_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look() -> Doctor:
        looks.append(threading.get_ident())
        return Doctor(True, [])

    monkeypatch.setattr(host, "_look", look)

    async def main() -> None:
        looker = host.HostLook()
        await asyncio.gather(*(looker.told() for _ in range(20)))
        assert await looker.told() == Doctor(True, [])

    asyncio.run(main())
    (where,) = looks
    assert where != threading.get_ident()  # the loop goes on meanwhile


def test_what_is_stale_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Doctor(False, []), Doctor(True, [])]
    monkeypatch.setattr(host, "_look", lambda: answers.pop(0))
    monkeypatch.setattr(host, "_FRESH", 0.0)

    async def main() -> None:
        looker = host.HostLook()
        assert [(await looker.told()).ok for _ in range(2)] == [False, True]

    asyncio.run(main())
