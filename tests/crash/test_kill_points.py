"""The daemon kills itself, really, at each step of a job's life; the next one makes good of it.

Each test starts a daemon with one point armed, asks it for something, sees it die, starts another
one, and balances the books (books.py): every acknowledged job ran as often as it should have and
ended as it did; one that was not acknowledged ran once and is known, or did neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.crash.api import Gone
from tests.crash.books import Entry
from tests.crash.paces import paces_of, start_holding, stop
from tests.crash.points import POINTS
from tests.crash.station import Station
from tests.daemons import Died
from tests.machine import REPO

# The launch and the end of a job that is started at once. Of the commits the first one is its row.
PLAIN = [
    "id-made", "uncommitted", "committed", "row-durable", "spool-made", "listening", "leaf-made",
    "leaf-limited", "cloned", "launched", "acknowledged", "executed", "uncommitted:2",
    "committed:2", "end-seen", "init-reaped", "record-read",
    "verdict-durable", "control-removed",
]  # fmt: skip
# The same of one that was acknowledged long before: the second launch of its daemon.
FROM_QUEUE = [
    "starting-durable", "spool-made:2", "listening:2", "leaf-made:2", "leaf-limited:2", "cloned:2",
    "launched:2", "executed:2", "end-seen:2", "record-read:2", "verdict-durable:2",
]  # fmt: skip
# A job that fails once and is started again.
AGAIN = [
    "end-seen", "record-read", "again-durable", "starting-durable", "listening:2", "cloned:2",
    "launched:2", "executed:2", "end-seen:2", "record-read:2", "verdict-durable",
]  # fmt: skip
STOPPED = ["stop-durable", "stop-sent", "end-seen", "record-read", "verdict-durable"]
RECOVERY = ["records-read", "inits-reached", "leaves-swept", "adopted", "relaunch", "recovered"]
ONCE = [
    "upload-begun",
    "stdin-kept",
    "queued-kept",
    "limits-changed",
    "row-deleted",
    "leaf-cleared",
    "record-restored",
]


def test_the_points_in_the_sources_are_those_that_are_tried() -> None:
    found = set()
    for folder in ("isolation", "supervisor"):
        for path in (REPO / folder).rglob("*.py"):
            found |= set(re.findall(r'\breached\("([^"]+)"\)', path.read_text()))
    tried = {
        name.partition(":")[0] for name in PLAIN + FROM_QUEUE + AGAIN + STOPPED + RECOVERY + ONCE
    }
    assert found == POINTS.keys() == tried


def try_submit(station: Station, entry: Entry) -> Entry:
    """One that may not be acknowledged."""
    with suppress(Gone):
        station.submit(entry)
    return entry


@pytest.mark.parametrize("point", PLAIN)
def test_a_job_that_starts_at_once(station: Station, point: str) -> None:
    station.start(point)
    entry = try_submit(station, Entry("plain", out=3, err=2, seed=4, code=7))
    station.wait_death()
    station.start()
    station.require_balanced([entry])


@pytest.mark.parametrize("point", FROM_QUEUE)
def test_a_job_that_starts_from_the_queue(open_station: Callable[..., Station], point: str) -> None:
    station = open_station(max_running=1)
    station.start(point)
    first = station.submit(Entry("first", wait_ms=300, code=1))
    second = station.submit(Entry("second", out=20, code=3))
    third = station.submit(Entry("third", err=1))
    station.wait_death()
    station.start()
    station.require_balanced([first, second, third])
    starts = [line for line in station.journal() if line.endswith("start")]
    assert starts == ["first start", "second start", "third start"]


def test_the_queue_keeps_its_order(open_station: Callable[..., Station]) -> None:
    station = open_station(max_running=1)
    station.start()
    held = start_holding(station)
    waiting = [Entry(f"waiting-{number}") for number in range(5)]
    waiting[1].options["after"] = 0  # it had a time, which has come
    for entry in waiting:
        station.submit(entry)
    for _ in range(2):
        station.kill()
        station.start()
    stop(station, held)
    station.require_balanced([held, *waiting])
    starts = [line.removesuffix(" start") for line in station.journal() if line.endswith("start")]
    assert starts == [entry.name for entry in (held, *waiting)]


@pytest.mark.parametrize("point", AGAIN)
def test_a_job_that_is_started_again(station: Station, point: str) -> None:
    station.start(point)
    entry = station.submit(Entry("again", out=2, fails=1))
    station.wait_death()
    station.start()
    station.require_balanced([entry])


@pytest.mark.parametrize("point", STOPPED)
def test_a_job_that_is_stopped(station: Station, point: str) -> None:
    """The stop is asked for once: that it was is durable before any of these."""
    station.start(point)
    entry = start_holding(station)
    assert entry.id
    with suppress(Gone):
        station.api.stop(entry.id)
    station.wait_death()
    station.start()
    station.require_balanced([entry])


@pytest.mark.parametrize("point", RECOVERY)
def test_a_daemon_that_takes_up_what_another_left(
    open_station: Callable[..., Station], point: str
) -> None:
    """A job runs, one has ended meanwhile, the launch of a third was cut short, a fourth waits."""
    station = open_station(max_running=3)
    station.start("leaf-limited:4")
    held = start_holding(station)
    with paces_of(station) as paces:
        alone = station.submit(Entry("alone", out=9, code=2, paces=1))
        brief = station.submit(Entry("brief", wait_ms=300))
        cut = station.submit(Entry("cut", out=1, code=4))
        waiting = station.submit(Entry("waiting", err=1))
        station.wait_death()
        paces.go()
        paces.wait_done()
    with suppress(Died):
        station.start(point)
        station.wait_death()
    station.start()
    stop(station, held)
    station.require_balanced([held, alone, brief, cut, waiting])


def test_a_job_with_input(station: Station) -> None:
    """What was uploaded for a job that never was is gone."""
    station.start("stdin-kept")
    entry = Entry("reader")
    with suppress(Gone):
        station.api.submit_with_input(entry.request(station.place), b"input")
    station.wait_death()
    station.start()
    station.require_balanced([entry])
    assert station.journal() == []


def test_a_job_that_was_about_to_wait(station: Station) -> None:
    station.start("queued-kept")
    entry = try_submit(station, Entry("later", options={"after": "1h"}))
    station.wait_death()
    assert list(station.state.glob("lib/jobs/*/queued"))
    station.start()
    assert station.api.all() == []
    station.require_balanced([entry])
    assert station.journal() == []


def test_input_of_which_half_was_uploaded(station: Station) -> None:
    station.start("upload-begun")
    with station.api.half_uploaded(3 << 20):
        station.wait_death()
    assert list(station.state.glob("lib/incoming/*"))
    station.start()
    station.require_balanced([])


def test_limits_that_were_being_changed(station: Station) -> None:
    station.start("limits-changed")
    entry = start_holding(station, mem="256M")
    with suppress(Gone):
        station.api.call("PUT", f"/jobs/{entry.id}/set", {"mem": "128M"})
    station.wait_death()
    station.start()
    # Nobody was told that it was done; it was, and so it says.
    assert station.api.status(entry.id or "")["limits"]["memory.max"] == str(128 << 20)
    station.api.call("PUT", f"/jobs/{entry.id}/set", {"mem": "64M"})
    assert station.api.status(entry.id or "")["limits"]["memory.max"] == str(64 << 20)
    stop(station, entry)
    station.require_balanced([entry])


def test_limits_of_a_job_that_was_just_launched(station: Station) -> None:
    station.start("launched")
    entry = try_submit(station, Entry("new", holds=True, options={"mem": "64M"}))
    station.wait_death()
    station.start()
    (line,) = station.api.all()
    assert station.api.status(line["id"])["limits"]["memory.max"] == str(64 << 20)
    entry.id = line["id"]
    stop(station, entry)
    station.require_balanced([entry])


def test_a_job_that_was_being_forgotten(station: Station) -> None:
    station.start("row-deleted")
    entry = station.submit(Entry("past", out=1))
    station.api.wait(entry.id or "")
    with suppress(Gone):
        station.api.call("DELETE", f"/jobs/{entry.id}")
    station.wait_death()
    station.start()
    assert station.api.all() == []
    station.require_balanced([])


def test_a_job_whose_init_was_killed(station: Station) -> None:
    """Both die, one after the other; nobody knows how the job would have ended."""
    station.start("leaf-cleared")
    entry = start_holding(station)
    station.kill_init()
    station.wait_death()
    station.start()
    status = station.api.wait(entry.id or "")
    assert (status["state"], status["verdict"]["cause"]) == ("lost", "init-lost")
    assert status["verdict"]["exit_code"] is None
    station.end()
    assert station.remains({status["id"]}) == []


def test_a_job_that_is_known_from_the_run_directory_alone(station: Station) -> None:
    station.start()
    entry = start_holding(station)
    station.kill()
    for path in (station.state / "lib").glob("jobs.db*"):
        path.unlink()
    with suppress(Died):
        station.start("record-restored")
        station.wait_death()
    station.start()
    stop(station, entry)
    station.require_balanced([entry])
