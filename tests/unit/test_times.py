"""Times of day and cron, in zones where clocks are changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.times import (
    NEVER,
    format_at,
    local_zone,
    next_time,
    parse_at,
    parse_every,
)

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> int:
    return parse_at("at", text)


def runs(cron: str, start: str, end: str, zone: ZoneInfo = BERLIN) -> list[str]:
    """When a job of this expression is run between two moments, in UTC."""
    found = []
    now = at(start)
    while (now := next_time(cron, now, zone)) < at(end):
        found.append(format_at(now))
    return found


# ---- times of day


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
        ("2026-12-01t02:00:00z", "2026-12-01T02:00:00Z"),
        ("2026-12-01 02:00Z", "2026-12-01T02:00:00Z"),
        ("2026-12-01T02:00:00.5+01:00", "2026-12-01T01:00:00.5Z"),
        ("2026-12-01T02:00:00.123456789Z", "2026-12-01T02:00:00.123456789Z"),
        ("2026-12-01T02:00-05:30", "2026-12-01T07:30:00Z"),
    ],
)
def test_a_time_with_a_zone(text: str, utc: str) -> None:
    assert format_at(at(text)) == utc


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-01T02:00", "2026-12-01T01:00:00Z"),
        ("2026-07-01T02:00", "2026-07-01T00:00:00Z"),
        ("2026-03-29T02:30", "2026-03-29T01:30:00Z"),  # skipped: as the old clock would show it
        ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),  # twice: the first
    ],
)
def test_a_time_without_one_is_local(text: str, utc: str) -> None:
    assert format_at(at(text)) == utc


@given(st.integers(365 * 86_400 * 10**9, 7 * 10**18))
def test_a_time_comes_back_exactly(ns: int) -> None:
    assert at(format_at(ns)) == ns


@pytest.mark.parametrize(
    "value",
    ["", "now", "02:00", "2026-12-01", "2026-13-01T00:00Z", "2026-12-01T24:00Z",
     "1969-01-01T00:00Z", "2026-12-01T00:00:60Z", "2026-02-29T00:00Z", "9999-12-31T00:00Z",
     "0001-01-01T00:00", "2026-12-01T02:00Z ", "2026-12-01T02:00\n", "2026-12-01T02:00+25:00",
     "٢٠٢٦-12-01T02:00Z", "2026-12-01T02:00:00.1234567890Z", 1796_090_400, 1.5, True, None,
     b"2026-12-01T02:00Z"]
)  # fmt: skip
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(BadValue) as caught:
        parse_at("at", value)
    assert caught.value.field == "at"


# ---- cron


def test_the_next_match_comes_after_the_last_one() -> None:
    assert runs("0 2 * * *", "2026-12-01T00:00Z", "2026-12-03T00:00Z") == [
        "2026-12-01T01:00:00Z",
        "2026-12-02T01:00:00Z",
    ]
    assert format_at(next_time("* * * * *", at("2026-12-01T02:00:00.5Z"))) == "2026-12-01T02:01:00Z"
    assert format_at(next_time("* * * * *", at("2026-12-01T02:00Z"))) == "2026-12-01T02:01:00Z"


def test_a_time_that_is_skipped_comes_once_right_after() -> None:
    assert runs("30 2 * * *", "2026-03-28T12:00Z", "2026-03-30T12:00Z") == [
        "2026-03-29T01:00:00Z",  # 3:00 in summer: 2:30 was not
        "2026-03-30T00:30:00Z",
    ]


def test_a_time_that_comes_twice_is_taken_once() -> None:
    assert runs("30 2 * * *", "2026-10-24T12:00Z", "2026-10-26T12:00Z") == [
        "2026-10-25T00:30:00Z",
        "2026-10-26T01:30:00Z",
    ]


def test_also_when_one_asks_within_its_second_coming() -> None:
    """As after a restart of the daemon at 2:10 in winter: 2:30 in summer has had its run."""
    second = at("2026-10-25T01:10Z")
    assert format_at(next_time("30 2 * * *", second, BERLIN)) == "2026-10-26T01:30:00Z"


def test_what_comes_every_hour_comes_every_hour() -> None:
    hours = runs("0 * * * *", "2026-10-24T23:30Z", "2026-10-25T03:30Z")
    assert hours == [f"2026-10-25T0{hour}:00:00Z" for hour in range(4)]
    minutes = runs("*/30 * * * *", "2026-03-29T00:10Z", "2026-03-29T02:10Z")
    assert minutes == [f"2026-03-29T{clock}:00Z" for clock in ("00:30", "01:00", "01:30", "02:00")]


MINUTE = st.sampled_from(["0", "30", "*/7", "*", "15,45"])
HOUR = st.sampled_from(["2", "3", "*", "*/2", "1-3"])
DAY = st.sampled_from(["*", "25", "29", "L"])


@given(MINUTE, HOUR, DAY, st.sampled_from([3, 10]), st.integers(0, 15 * 86_400))
def test_time_goes_on_whatever_the_clocks_do(
    minute: str, hour: str, day: str, month: int, second: int
) -> None:
    """Each match is later than what it was asked for, and none lies between that is another."""
    start = datetime(2026, month, 18, tzinfo=BERLIN) + timedelta(seconds=second)
    now = int(start.timestamp()) * 10**9
    cron = f"{minute} {hour} {day} * *"
    first = next_time(cron, now, BERLIN)
    assert first > now
    between = now + (first - now) // 2
    assert next_time(cron, between, BERLIN) == first


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/5 * * * mon-fri", "0 0 29 2 *", "0 0 L * *"])
def test_expressions(cron: str) -> None:
    assert parse_every("every", f"  {cron.replace(' ', '  ')} ") == cron


@pytest.mark.parametrize(
    "value",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "@daily",
     "* * * * 8", "5-1 * * * *", "*/0 * * * *", "0 0 30 2 *", "0 0 31 4,6 *", "0 0 */31 * mon#2",
     "x * * * *", "² * * * *", "-1 * * * *", "1/1/1/1/x * * * *", "* * * * " + "1," * 100 + "1",
     5, None, True, b"* * * * *", "* * * * *\0"]
)  # fmt: skip
def test_what_is_no_expression_is_refused(value: object) -> None:
    with pytest.raises(BadValue) as caught:
        parse_every("every", value)
    assert caught.value.field == "every"


def test_a_nickname_leads_to_its_five_fields() -> None:
    with pytest.raises(BadValue) as caught:
        parse_every("every", "@daily")
    assert caught.value.hint == '"0 0 * * *" says it'


@given(st.lists(st.text("0123456789*/,-#LWlw mon", min_size=1, max_size=9), min_size=5, max_size=5))
def test_no_text_breaks_anything(words: list[str]) -> None:
    try:
        cron = parse_every("every", " ".join(words))
    except BadValue:
        return
    assert next_time(cron, at("2026-12-01T00:00Z")) > at("2026-12-01T00:00Z")


def test_what_comes_no_more_is_far_away() -> None:
    assert next_time("0 0 */31 * mon#2", at("2026-12-01T00:00Z")) == NEVER
    with pytest.raises(ValueError, match="minute"):
        next_time("99 * * * *", 0)


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"]
)
def test_the_local_zone_is_that_of_tz(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", name)
    summer, winter = datetime(2026, 7, 1), datetime(2026, 12, 1)  # noqa: DTZ001 - of a zone to be asked
    offsets = [local_zone().utcoffset(moment) for moment in (summer, winter)]
    assert offsets == [timedelta(hours=2), timedelta(hours=1)]


@pytest.mark.parametrize("name", ["CET-1", "No/Such", "/no/such/file", "../../etc/passwd"])
def test_a_zone_that_is_none_of_the_hosts_is_what_the_clock_shows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", name)
    assert local_zone().utcoffset(datetime(2026, 7, 1)) is not None  # noqa: DTZ001
