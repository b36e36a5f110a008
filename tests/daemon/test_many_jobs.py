"""Many live jobs and ten thousand that have ended: what they cost, and that a restart takes up all.

The figures are printed (pytest -s). JOBSUP_LIVE_JOBS=1000 is the long form; it wants a guest with
--mem 8G, and takes some minutes there. Ended jobs are written through the store, as the daemon
writes them, before the daemon is there: running ten thousand would take the guest half an hour.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.daemon.store import Store
from tests.crash.api import Refused
from tests.daemon.conftest import long_form, served
from tests.daemon.served import Served, private_kib
from tests.kernel.resting import wait_resting
from tests.machine import inits, leaves

LIVE = long_form("JOBSUP_LIVE_JOBS", 120)
ENDED = 10_000
KIB_A_JOB = 10
IDLE_SECONDS = 10

VERDICT: dict[str, Any] = {
    "state": "failed", "cause": "exited", "status": 3, "exit_code": 3,
    "message": "the command exited with status 3",
}  # fmt: skip


async def write_ended(state: Path, count: int) -> None:
    """Records of jobs that ended."""
    (state / "lib").mkdir(parents=True, mode=0o700)
    store = await Store.open(state / "lib" / "jobs.db")
    now = time.time_ns()
    await asyncio.gather(*(store.save(_ended(number, now)) for number in range(count)))
    await store.close()


def _ended(number: int, now: int) -> Record:
    return Record(
        id=f"j-ended{number:05}", uid=0, gid=0, user="root", name=f"ended-{number % 100}",
        request={"argv": ["sh", "-c", "exit 3"], "cwd": "/"}, argv=["sh", "-c", "exit 3"],
        state=State.FAILED, queued_ns=now, started_ns=now, ended_ns=now, reason="exited",
        limits={"memory.max": "max", "pids.max": "4096"}, verdict=VERDICT, output_bytes=4096,
    )  # fmt: skip


def with_ended(count: int) -> AbstractContextManager[Served]:
    return served(before=lambda state: asyncio.run(write_ended(state, count)))


@pytest.fixture(scope="module")
def few() -> Iterator[int]:
    """KiB of a daemon that has a tenth of them, enough to fill every cache."""
    with with_ended(ENDED // 10) as daemon:
        daemon.api.all()
        yield daemon.resident()


class Crowd:
    """A daemon with many jobs, and what it cost before it had them."""

    def __init__(self, daemon: Served) -> None:
        self.daemon = daemon
        daemon.api.all()
        self.resident, self.descriptors = daemon.resident(), daemon.descriptors()
        begun, spent = time.monotonic(), daemon.ticks()
        self.jobs = [daemon.submit(["sleep", "1000000"]) for _ in range(LIVE)]
        wall, ticks = time.monotonic() - begun, daemon.ticks() - spent
        while len(self.live()) < LIVE:
            pass  # the last ones are being executed
        print(f"\nstart {LIVE} jobs: {wall:.1f} s, {ticks * 10 / LIVE:.1f} ms CPU a job")

    def live(self) -> list[Any]:
        return self.daemon.api.all("running")


@pytest.fixture(scope="module")
def crowd(few: int) -> Iterator[Crowd]:
    with with_ended(ENDED) as daemon:
        yield Crowd(daemon)


def test_what_has_ended_costs_nothing(few: int, crowd: Crowd) -> None:
    print(f"\ndaemon: {few} KiB; with ten times as many ended jobs: {crowd.resident} KiB")
    assert crowd.resident < few * 1.1


def test_a_live_job_costs_little(crowd: Crowd) -> None:
    daemon, live = crowd.daemon, len(crowd.live())
    assert live == LIVE
    memory = (daemon.resident() - crowd.resident) / live
    descriptors = (daemon.descriptors() - crowd.descriptors) / live
    init = statistics.median(private_kib(pid) for pid in inits())
    print(f"\na job: {memory:.1f} KiB and {descriptors:.1f} descriptors in the daemon,")
    print(f"       {init} KiB of its init's own; the daemon with all: {daemon.resident()} KiB")
    assert memory <= KIB_A_JOB
    assert descriptors <= 3.1
    assert len(inits()) == LIVE


def test_pages_have_every_job_once_newest_first(crowd: Crowd) -> None:
    asked, found, after = 0, [], None
    begun = time.monotonic()
    while True:
        page = crowd.daemon.api.call("GET", "/jobs", limit=1000, after=after)
        found += [line["id"] for line in page["jobs"]]
        asked += 1
        if (after := page["next"]) is None:
            break
    print(f"\nlist: {len(found)} jobs on {asked} pages, {time.monotonic() - begun:.2f} s")
    ended = [f"j-ended{number:05}" for number in reversed(range(ENDED))]
    assert found == [*reversed(crowd.jobs), *ended]
    assert [line["id"] for line in reversed(crowd.live())] == crowd.jobs
    assert len(crowd.daemon.api.call("GET", "/jobs", name="ended-7", limit=1000)["jobs"]) == 100


def test_status_is_answered_among_ten_thousand(crowd: Crowd) -> None:
    api = crowd.daemon.api
    times = []
    for job in crowd.jobs[:50]:
        begun = time.monotonic()
        assert api.status(job)["state"] == "running"
        times.append(time.monotonic() - begun)
    told = api.status("j-ended07777")
    assert (told["state"], told["verdict"]["exit_code"]) == ("failed", 3)
    with pytest.raises(Refused, match="ambiguous"):
        api.status("j-ended0777")
    p99 = sorted(times)[-1]
    print(f"\nstatus: p50 {statistics.median(times) * 1000:.1f} ms, worst {p99 * 1000:.1f} ms")


def test_idle_jobs_cost_no_processor_time(crowd: Crowd) -> None:
    wait_resting(crowd.daemon.pid, seconds=IDLE_SECONDS)
    print(f"\n{LIVE} idle jobs, {IDLE_SECONDS} s: the daemon was never woken")


def test_all_are_adopted_after_a_crash(crowd: Crowd) -> None:
    daemon, before = crowd.daemon, inits()
    resident, descriptors = daemon.resident(), daemon.descriptors()
    daemon.kill()
    begun = time.monotonic()
    daemon.start()
    ready = time.monotonic() - begun
    assert [line["id"] for line in reversed(crowd.live())] == crowd.jobs
    assert inits() == before
    print(f"\nadoption of {LIVE}: ready after {ready:.2f} s, {daemon.ticks()} ticks of CPU;")
    print(f"         {daemon.resident()} KiB (before {resident}), {daemon.descriptors()} fds")
    daemon.until_few_descriptors(descriptors + 5)
    assert daemon.resident() < resident * 1.1


def test_all_are_stopped(crowd: Crowd) -> None:
    daemon = crowd.daemon
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(daemon.api.stop, crowd.jobs))
        ends = list(clients.map(daemon.api.wait, crowd.jobs))
    print(f"\nstop {LIVE}: {time.monotonic() - begun:.1f} s")
    assert {end["state"] for end in ends} == {"stopped"}
    assert {end["verdict"]["signal"] for end in ends} == {"SIGTERM"}
    assert leaves() == set()
    daemon.until_few_descriptors(crowd.descriptors + 5)
    print(f"afterwards the daemon has {daemon.resident()} KiB, {daemon.descriptors()} descriptors")
    assert not list((daemon.state / "run" / "control").iterdir())
    assert os.listdir(daemon.state / "run" / "records") == []
