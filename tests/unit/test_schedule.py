"""When a job starts, and starts again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.schedule import Due, due_again, first_due, next_due, was_long
from jobsup.supervisor.request import Request
from jobsup.supervisor.times import NEVER, next_time

SECOND = 10**9
NOW = 1_800_000_000 * SECOND  # of a minute that is whole
YEAR = 365 * 86_400 * SECOND
COMPLETED, FAILED, LOST, STOPPED = (
    {"state": state} for state in ("completed", "failed", "lost", "stopped")
)


def asked(**options: Any) -> Request:  # noqa: ANN401 - those of Request
    return Request.make(["true"], cwd="/", **options)


def record(verdict: dict[str, Any] | None = None, **fields: Any) -> Record:  # noqa: ANN401
    return Record(**{"id": "j", "uid": 0, "gid": 0, "queued_ns": NOW, "verdict": verdict, **fields})


def pause(due: Due | None) -> float:
    """Of a restart, in seconds."""
    assert due is not None
    assert due.delay_ns is not None
    assert due.when_ns == NOW + due.delay_ns
    return due.delay_ns / SECOND


# ---- the first time


def test_what_says_nothing_starts_now() -> None:
    assert first_due(asked(), NOW) is None


def test_a_duration_runs_on_the_monotonic_clock() -> None:
    assert first_due(asked(after="90s"), NOW) == Due(
        NOW + 90 * SECOND, 90 * SECOND, "waits for its time"
    )


def test_a_time_of_day_follows_the_wall_clock() -> None:
    due = first_due(asked(at="2026-12-01T02:00:00Z"), NOW)
    assert due == Due(1_796_090_400 * SECOND, None, "waits for its time")


def test_cron_comes_at_its_next_match() -> None:
    assert first_due(asked(every="* * * * *"), NOW) == Due(
        NOW + 60 * SECOND, None, "waits for its time"
    )


# ---- again


@pytest.mark.parametrize(
    ("policy", "again"),
    [
        ("no", []),
        ("on-failure", [FAILED, LOST]),
        ("always", [COMPLETED, FAILED, LOST]),
    ],
)
def test_policies(policy: str, again: list[dict[str, str]]) -> None:
    for verdict in (COMPLETED, FAILED, LOST, STOPPED):
        due = next_due(record(verdict), asked(restart=policy), NOW, 0)
        assert (due is not None) is (verdict in again), verdict


@pytest.mark.parametrize("options", [{"restart": "always"}, {"every": "* * * * *"}])
@pytest.mark.parametrize("fields", [{"stop": (15, 0)}, {"attached": True}])
def test_not_what_was_stopped_or_was_somebodys_foreground(
    options: dict[str, str], fields: dict[str, Any]
) -> None:
    assert next_due(record(FAILED), asked(**options), NOW, 0) is not None
    assert next_due(record(FAILED, **fields), asked(**options), NOW, 0) is None
    assert next_due(record(STOPPED), asked(**options), NOW, 0) is None


def test_on_failure_n_is_n_runs_more() -> None:
    request = asked(restart="on-failure:3")
    runs = [next_due(record(FAILED, attempt=n), request, NOW, 0) is not None for n in range(1, 6)]
    assert runs == [True, True, True, False, False]


def test_pauses_double_up_to_a_minute() -> None:
    request = asked(restart="always")
    pauses = [pause(next_due(record(FAILED), request, NOW, count)) for count in range(10)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert pause(next_due(record(FAILED), request, NOW, 10**6)) == 60


@pytest.mark.parametrize(
    ("started", "ended", "long"),
    [(0, 10 * SECOND, True), (0, 10 * SECOND - 1, False), (None, 1, False), (0, None, False)],
)
def test_after_a_run_of_ten_seconds_pauses_are_short_again(
    started: int | None, ended: int | None, long: bool
) -> None:
    assert was_long(record(started_ns=started, ended_ns=ended)) is long


def test_matches_that_passed_during_a_run_are_left_out() -> None:
    request = asked(every="*/5 * * * *")
    due = next_due(record(COMPLETED, started_ns=NOW), request, NOW + 3600 * SECOND, 0)
    assert due == Due(NOW + 3900 * SECOND, None, "waits for its time")


def test_a_match_comes_once_also_when_its_run_is_short() -> None:
    due = first_due(asked(every="* * * * *"), NOW)
    assert due is not None
    for passed in (0, 1, SECOND - 1, SECOND):
        assert next_time("* * * * *", due.when_ns + passed) == due.when_ns + 60 * SECOND


# ---- after a restart of the daemon


def test_a_job_that_was_due_is_due() -> None:
    assert due_again(record(), asked(restart="always"), NOW) is None


@pytest.mark.parametrize("options", [{"at": "2027-01-15T08:00:00Z"}, {"every": "0 * * * *"}])
@pytest.mark.parametrize("passed", [-YEAR, 0, YEAR])
def test_times_of_day_stay_what_they_were(options: dict[str, str], passed: int) -> None:
    waits = record(due_ns=NOW, reason="waits for its time")
    assert due_again(waits, asked(**options), NOW + passed) == Due(NOW, None, "waits for its time")


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (NOW, 60),
        (NOW + 20 * SECOND, 40),
        (NOW + YEAR, 0),  # or its clock was set forward
        (NOW - YEAR, 60),  # its clock was set back: no longer than was asked for
    ],
)
def test_a_duration_goes_on_while_the_daemon_is_down(now: int, left: int) -> None:
    waits = record(due_ns=NOW + 60 * SECOND)
    due = due_again(waits, asked(after="60s"), now)
    assert due == Due(now + left * SECOND, left * SECOND, "waits for its time")


def test_a_pause_between_runs_is_never_more_than_a_minute() -> None:
    waits = record(due_ns=NOW + 8 * SECOND, attempt=2, reason="restarts after a pause of 8 s")
    for options in ({"restart": "always"}, {"restart": "always", "after": "9h"}):
        due = due_again(waits, asked(**options), NOW - YEAR)
        assert due is not None
        assert (due.delay_ns, due.reason) == (60 * SECOND, "restarts after a pause of 8 s")
    # The time of day was that of the first run.
    again = due_again(waits, asked(at="2020-01-01T00:00:00Z", restart="always"), NOW)
    assert again is not None
    assert again.delay_ns == 8 * SECOND


def test_what_never_comes_is_beyond_all_clocks() -> None:
    assert NEVER > NOW + 50 * YEAR
    waits = replace(record(), due_ns=NEVER)
    assert due_again(waits, asked(every="* * * * *"), NOW) == Due(NEVER, None, "waits for its time")
