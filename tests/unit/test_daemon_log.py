"""What the daemon says to who started it: its log, and the service manager."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.daemon.log import Lines, line, log, shown
from jobsup.supervisor.daemon.notify import Notifier


def formatted(message: str, *, journal: bool, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("aiohttp", logging.WARNING, "x.py", 1, message, None, info)
    return Lines(journal=journal).format(record)


def test_an_event_is_one_line_of_pairs() -> None:
    told = line("job ended", {"job": "a1", "name": None, "path": Path("/x y"), "code": 3})
    assert told == 'job ended job=a1 path="/x y" code=3'


@given(value=st.text() | st.binary())
def test_no_user_writes_lines_of_his_own(value: str | bytes) -> None:
    told = shown(value)
    assert told.isascii()
    assert told.isprintable()
    assert told[0] == told[-1] == '"' or " " not in told


@given(message=st.text())
def test_nor_by_what_others_log(message: str) -> None:
    try:
        raise ValueError(message)
    except ValueError as error:
        told = formatted(message, journal=True, error=error)
    assert told.startswith("<4>")
    assert told.isascii()
    assert told.isprintable()


def test_without_a_journal_a_line_has_its_time_and_level() -> None:
    assert formatted("careful", journal=False).split(" ", 1)[1] == "warning careful"


def test_an_error_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("why\nnot")
    except ValueError as error:
        log.error("failed", job="a1", error=error)
    told = caplog.records[0].getMessage()
    assert told.startswith('failed job=a1 error="ValueError: why\\nnot" traceback="Traceback')
    assert "\n" not in told


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(10)
        yield listener


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"jobsup-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with manager("\0" + name if abstract else name) as listener:
        Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name}).tell(READY="1", STATUS="x y")
        assert listener.recv(100) == b"READY=1\nSTATUS=x y"


def test_nobody_is_told_where_nobody_listens() -> None:
    Notifier({}).tell(READY="1")


@pytest.mark.parametrize(("pid", "told"), [(None, 2), (0, 2), (1, 0)])
def test_the_watchdog_is_answered_by_the_loop_if_it_is_ours(
    tmp_path: Path, pid: int | None, told: int
) -> None:
    name = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000"}
    if pid is not None:
        environment["WATCHDOG_PID"] = str(pid or os.getpid())
    with manager(name) as listener:
        notifier = Notifier(environment)

        async def turn() -> None:
            notifier.watch(asyncio.get_running_loop())
            await asyncio.sleep(0.05)
            notifier.close()

        asyncio.run(turn())
        listener.setblocking(False)
        for _ in range(told):
            assert listener.recv(100) == b"WATCHDOG=1"
        if not told:
            with pytest.raises(BlockingIOError):
                listener.recv(100)
