"""The state lies on a disk that is full: what runs goes on, what must be kept waits for room."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsup.supervisor.daemon import dispatch
from jobsup.supervisor.daemon.events import EventBus
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import StorageFull
from tests.kernel.engines import GOES_ON, ROOT, Daemon, message, run, turn_until

SIZE = 8 << 20
# Does its part when it is told to: how long it takes to fill a disk, nobody knows. Its shell would
# tell on stderr what the signal did to `sleep`.
AT_USR1 = "exec 2>/dev/null; trap '{}' USR1; echo; while :; do sleep 0.05; done"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; `fill` and `make_room` in the tests."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)], check=True
    )
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path) -> None:
    with open(directory / "ballast", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"." * size)
            except OSError:
                continue


def make_room(directory: Path) -> None:
    (directory / "ballast").unlink()


async def fill_records(daemon: Daemon, directory: Path) -> None:
    """Until not even a small row can be written: SQLite's log has some room left in its pages."""
    fill(directory)
    for size in (3000, 1):
        with pytest.raises(StorageFull):
            while True:
                await daemon.engine.store.set_setting("filling", "." * size)
                fill(directory)


def test_jobs_go_on_and_are_stopped_and_their_ends_are_kept_when_there_is_room(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_RETRY_SECONDS", 0.1)

    async def body(daemon: Daemon) -> None:
        records = [await daemon.running(GOES_ON) for _ in range(3)]
        by_itself = await daemon.running(AT_USR1.format("exit 7"))
        queued = await daemon.submit("true", after="1h")
        await fill_records(daemon, small)
        with pytest.raises(StorageFull):
            await daemon.submit("true")
        assert len(daemon.engine.jobs) == 5
        stopped, killed, alive = records
        await daemon.engine.stop(stopped)
        await daemon.engine.kill(killed)
        await daemon.engine.signal(by_itself, signal.SIGUSR1)
        with pytest.raises(StorageFull, match="does not wait any more"):
            await daemon.engine.stop(queued)
        for record, told in (
            (stopped, "sh was stopped on request"),
            (killed, "sh was killed on request"),
            (by_itself, "exited with code 7"),
            (queued, "stopped on request, before it was started"),
        ):
            status = await daemon.engine.wait(record)
            assert message(status).startswith(told)  # what it wrote meanwhile was lost
            # What an init had reserved for its own record is free now, and may be room enough.
            assert record.id not in daemon.engine.jobs or daemon.job(record).unsaved
        assert alive.state is State.RUNNING
        await daemon.engine.pause(alive)
        assert (await daemon.engine.status(alive)).state == "paused"
        await daemon.engine.resume(alive)
        make_room(small)
        await turn_until(lambda: set(daemon.engine.jobs) == {alive.id})
        for record in (stopped, killed, by_itself, queued):
            stored = await daemon.engine.store.get(record.id)
            assert stored is not None
            assert (stored.state, stored.verdict) == (record.state, record.verdict)
            assert len((await daemon.engine.status(record)).attempts) == 1
        assert (await daemon.run("true")).state == "completed"

    run(small / "state", body, {})


class Told(EventBus):
    """Remembers all that is told."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[tuple[str, State]] = []

    def publish(self, record: Record, now_ns: int) -> None:
        super().publish(record, now_ns)
        self.states.append((record.id, record.state))


def test_who_was_told_of_a_job_is_told_that_it_was_not_taken(small: Path) -> None:
    async def body(daemon: Daemon) -> None:
        daemon.engine.dispatch.events = told = Told()
        await fill_records(daemon, small)
        with pytest.raises(StorageFull):
            await daemon.submit("true")
        (first, then), (second, end) = told.states
        assert first == second
        assert (then, end) == (State.STARTING, State.FAILED)
        with pytest.raises(OSError, match="No space left"):
            await daemon.submit("true", after="1h")
        assert len(told.states) == 2  # nobody was told of it
        assert daemon.files() == await daemon.rows() == set()
        make_room(small)

    run(small / "state", body, {})


def test_a_job_waits_for_room_to_be_started_again(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_RETRY_SECONDS", 0.1)

    async def body(daemon: Daemon) -> None:
        again = await daemon.running(AT_USR1.format("exit 3"), restart="on-failure:1")
        due = await daemon.submit("true", after="3s")
        stopped = await daemon.submit("true", after="3s")
        await fill_records(daemon, small)
        await daemon.engine.signal(again, signal.SIGUSR1)
        for record in (again, due, stopped):
            await daemon.when(record, lambda: daemon.job(record).unsaved)  # noqa: B023
        assert (again.state, again.attempt) == (State.QUEUED, 2)
        assert due.state is State.STARTING
        await daemon.engine.stop(stopped)
        assert (await daemon.engine.wait(stopped)).state == "stopped"
        make_room(small)
        assert (await daemon.ended(due)).state == "completed"
        await daemon.begun(again)
        await daemon.engine.signal(again, signal.SIGUSR1)
        status = await daemon.ended(again)
        assert [run.attempt for run in status.attempts] == [1, 2]
        assert message(await daemon.ended(stopped)) == "stopped on request, before it was started"

    run(small / "state", body, {})


def test_the_output_that_fills_the_disk_can_be_removed(small: Path) -> None:
    async def body(daemon: Daemon) -> None:
        done = await daemon.submit("head -c 3000000 /dev/zero")
        await daemon.ended(done)
        lost = await daemon.running(AT_USR1.format("head -c 100000 /dev/zero; exit 5"))
        flood = await daemon.submit("cat /dev/zero; echo >&2")
        await turn_until(lambda: _is_full(small))
        await daemon.engine.signal(lost, signal.SIGUSR1)
        status = await daemon.engine.wait(lost)
        assert status.verdict is not None
        assert status.verdict["exit_code"] == 5
        assert status.verdict["output"]["lost_bytes"] > 0
        assert status.verdict["output"]["errno"] == "ENOSPC"
        assert flood.state is State.RUNNING
        await daemon.engine.kill(flood)
        await daemon.engine.wait(flood)
        await fill_records(daemon, small)
        for record in (done, flood, lost):
            await daemon.engine.remove(record)
        assert daemon.engine.jobs == {}
        assert daemon.files() == await daemon.rows() == set()
        assert (await daemon.run("true")).state == "completed"

    run(small / "state", body, {})


def _is_full(directory: Path) -> bool:
    told = subprocess.run(["stat", "-fc", "%f", str(directory)], capture_output=True, check=True)
    return int(told.stdout) == 0


def test_a_daemon_that_goes_meanwhile_loses_no_end(small: Path) -> None:
    async def body(daemon: Daemon) -> None:
        record = await daemon.running(AT_USR1.format("exit 7"))
        await fill_records(daemon, small)
        await daemon.engine.signal(record, signal.SIGUSR1)
        await daemon.engine.wait(record)
        assert daemon.job(record).unsaved
        await asyncio.wait_for(daemon.close(), 60)
        make_room(small)
        await daemon.open()
        found = await daemon.engine.find(record.id, ROOT)
        status = await daemon.ended(found)
        assert message(status) == "exited with code 7"
        assert len(status.attempts) == 1

    run(small / "state", body, {})
