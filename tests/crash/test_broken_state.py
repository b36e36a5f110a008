"""What is told when what should have told it is gone, and what is made of what is left."""

from __future__ import annotations

import shutil

import pytest

from tests.crash.books import Entry
from tests.crash.paces import start_holding, stop
from tests.crash.station import Station


@pytest.mark.parametrize("watched", [True, False], ids=["a daemon watches", "there is no daemon"])
def test_an_init_that_is_killed_takes_the_job_with_it(station: Station, watched: bool) -> None:
    """And its end is unknown: no exit status, no signal, nothing that was not seen."""
    station.start()
    entry = start_holding(station)
    if not watched:
        station.kill()
    station.kill_init()
    if not watched:
        station.start()
    status = station.api.wait(entry.id or "")
    verdict = status["verdict"]
    assert (status["state"], verdict["cause"]) == ("lost", "init-lost")
    assert (verdict["exit_code"], verdict["signal"], verdict["wall_seconds"]) == (None, None, None)
    assert len(b"".join(station.api.pieces(entry.id or "", stream="stdout"))) == entry.size(
        "stdout"
    )
    station.end()
    assert station.journal() == ["held start"]
    assert station.remains({status["id"]}) == []


def test_records_that_are_damaged_are_moved_aside_and_no_job_runs_twice(station: Station) -> None:
    station.start()
    past = station.submit(Entry("past", out=3, code=6))
    station.api.wait(past.id or "")
    stopped = start_holding(station, "stopped", restart="always")
    stop(station, stopped)
    station.api.wait(stopped.id or "")
    held = start_holding(station)
    station.kill()
    _damage(station)
    station.start()
    assert [path.name for path in (station.state / "lib").glob("jobs.db*") if _is_aside(path.name)]
    assert {line["id"]: line["state"] for line in station.api.all()} == {
        past.id: "failed",
        stopped.id: "stopped",
        held.id: "running",
    }
    stop(station, held)
    account = station.balance([past, stopped, held])
    told = [line for line in account.mistakes if "the records were damaged" in line]
    assert len(told) == 1
    account.mistakes.remove(told[0])
    assert not account.complaints, account.complaints


def test_jobs_that_wait_are_not_lost_with_the_records(station: Station) -> None:
    """Nor does one run again that ran, or one at all that was stopped before it did."""
    station.start()
    later = Entry("later", options={"after": "1h"})
    later.id = station.api.submit_with_input(later.request(station.place), b"input")
    due = station.api.status(later.id)["due_at"]
    soon = station.submit(Entry("soon", out=2, code=3, options={"after": "3s"}))
    past = station.submit(Entry("past", out=1, options={"after": "10ms"}))
    station.api.wait(past.id or "")
    held = start_holding(station, after="10ms")
    stopped = station.submit(Entry("stopped", options={"after": "1h"}))
    station.api.stop(stopped.id or "")
    station.api.wait(stopped.id or "")
    station.kill()
    _damage(station)
    station.start()
    states = {line["id"]: line["state"] for line in station.api.all()}
    assert states.pop(soon.id) in ("queued", "starting", "running", "failed")
    assert states == {
        later.id: "queued",
        past.id: "completed",
        held.id: "running",
    }
    assert station.api.status(later.id)["due_at"][:19] == due[:19]
    assert (station.state / "lib" / "jobs" / later.id / "stdin").read_bytes() == b"input"
    station.kill()
    station.start()  # its records know all of them again
    assert station.api.status(later.id)["state"] == "queued"
    stop(station, later)
    station.api.wait(later.id)
    station.api.call("DELETE", f"/jobs/{later.id}")
    stop(station, held)
    account = station.balance([soon, past, held])
    account.mistakes = [line for line in account.mistakes if "were damaged" not in line]
    assert not account.complaints, account.complaints
    assert "later start" not in station.journal()


def _damage(station: Station) -> None:
    database = station.state / "lib" / "jobs.db"
    database.write_bytes(b"no database at all" * 1000)
    for path in (station.state / "lib").glob("jobs.db-*"):
        path.unlink()


def _is_aside(name: str) -> bool:
    return name not in ("jobs.db", "jobs.db-wal", "jobs.db-shm")


def test_a_job_outlives_the_whole_state(station: Station) -> None:
    """Its output went with it; the job did not."""
    station.start()
    held = start_holding(station)
    station.kill()
    shutil.rmtree(station.state / "lib")
    station.start()
    assert station.api.status(held.id or "")["state"] == "running"
    stop(station, held)
    status = station.api.wait(held.id or "")
    assert (status["state"], status["verdict"]["exit_code"]) == ("stopped", held.code)
    assert station.journal() == ["held start", "held term"]
    station.end()
    assert station.remains({status["id"]}) == []


def test_two_daemons(station: Station) -> None:
    """The second one of a state ends; the first one does not notice."""
    station.start()
    held = start_holding(station)
    first = station.pid
    refused = station.start_second()
    assert f"pid {first}" in refused
    assert station.api.status(held.id or "")["state"] == "running"
    stop(station, held)
    station.require_balanced([held])
