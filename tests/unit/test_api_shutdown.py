"""What is being answered when the server closes has a while to end, and is then broken off."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from jobsup.supervisor.daemon.api import server
from jobsup.supervisor.protocol import JobPage
from tests.unit.pretended import Daemon

PATIENCE = 0.3
ASKED = b"GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n"


class Slow:
    """An engine's answer that comes when it is let go."""

    def __init__(self, daemon: Daemon, asked: str = "page") -> None:
        self.begun = False
        self.cancelled = False
        self._loop = daemon.loop
        self._gone = asyncio.Event()
        setattr(daemon.engine, asked, self._answer)

    async def _answer(self, *_: object, **__: object) -> JobPage:
        self.begun = True
        try:
            await self._gone.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return JobPage([], None)

    def end_after(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._gone.set)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", PATIENCE)


def errors(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_it_may_end_in_time(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow(daemon)
    with daemon.raw(ASKED) as client:
        daemon.until(lambda: slow.begun)
        daemon.do(lambda: slow.end_after(0.01))
        daemon.close()
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert not errors(caplog)


def test_it_is_broken_off_later(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow(daemon)
    with daemon.raw(ASKED) as client:
        daemon.until(lambda: slow.begun)
        daemon.close()
        assert client.recv(1000) == b""
    assert slow.cancelled
    assert not errors(caplog)


@pytest.mark.parametrize("turn", range(8))
def test_it_may_end_in_the_moment_in_which_it_is_broken_off(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, turn: int
) -> None:
    slow = Slow(daemon)
    with daemon.raw(ASKED):
        daemon.until(lambda: slow.begun)

        close = daemon.server.close

        async def close_as_it_ends() -> None:
            slow.end_after(PATIENCE + (turn - 2) * 5e-5)
            await close()

        daemon.server.close = close_as_it_ends  # type: ignore[method-assign]
        daemon.close()
    assert not errors(caplog)


@pytest.mark.parametrize(
    ("asked", "method", "path", "body"),
    [
        ("terminate", "PUT", "/control/terminate", ""),
        ("remove", "DELETE", "/jobs/x?force", ""),
        ("signal", "PUT", "/jobs/x/signal", '{"signal": "HUP"}'),
    ],
)
@pytest.mark.parametrize("stays", [True, False])
def test_what_waits_for_a_job_holds_up_nobody(
    daemon: Daemon,
    caplog: pytest.LogCaptureFixture,
    asked: str,
    method: str,
    path: str,
    body: str,
    stays: bool,
) -> None:
    """A job may never end, or not get out of `starting`, which it is to be told after."""
    daemon.start(name="x")
    slow = Slow(daemon, asked)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with daemon.raw((head + body).encode()) as client:
        daemon.until(lambda: slow.begun)
        if not stays:
            client.close()
        daemon.close()
        assert not stays or client.recv(1000) == b""
    assert slow.cancelled
    assert not errors(caplog)
