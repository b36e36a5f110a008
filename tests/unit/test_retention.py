"""Old jobs go whatever went wrong before, with a store that is made up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from jobsup.supervisor.daemon import retention
from jobsup.supervisor.daemon.retention import Retention
from jobsup.supervisor.daemon.store import Store
from jobsup.supervisor.errors import StorageFull


class Troubled:
    """Stands for the store."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def ended_before(self, _before_ns: int) -> list[str]:
        if self._errors:
            raise self._errors.pop(0)
        return ["old"]


@pytest.mark.parametrize(
    "error", [StorageFull("no room"), OSError("bad disk"), ValueError("a mistake of ours")]
)
def test_one_look_that_fails_is_not_the_last(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_AT_LEAST", 0)
    monkeypatch.setattr(retention, "_AT_MOST", 0)

    async def main() -> None:
        gone = asyncio.get_running_loop().create_future()

        async def forget(ids: list[str]) -> None:
            if not gone.done():
                gone.set_result(ids)

        keeper = Retention(cast(Store, Troubled(error)), forget, 0)
        keeper.start()
        async with asyncio.timeout(60):
            assert await gone == ["old"]
        await keeper.stop()

    asyncio.run(main())
