"""Quantities: what people write is taken at its word, or refused naming the field."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.isolation import Rlimit
from jobsup.supervisor import units
from jobsup.supervisor.errors import BadValue

PARSERS: list[Callable[[str, object], object]] = [
    units.parse_count,
    units.parse_size,
    units.parse_memory,
    units.parse_memory_low,
    units.parse_memory_or_max,
    units.parse_swap,
    units.parse_output_max,
    units.parse_pids,
    units.parse_weight,
    units.parse_duration,
    units.parse_grace,
    units.parse_cpus,
    units.parse_cpus_or_max,
    units.parse_cpuset,
    units.parse_rlimit,
]
# What no quantity is, however it is measured.
IMPOSSIBLE = [
    "", " ", "256X", "-1", "-5M", "+1", "1e3", "0x10", "1_000", "1 M", " 1M", "1M ", "1M\n", "M",
    "nan", "NaN", "inf", "-inf", "1.", ".5", "1..5", "1,5", "١٢", "１M", "1M\0", "5\0", "9" * 65,
    None, True, False, b"1M", [], {}, object(), 1j, -1, -(2**70), 2**64, 10**5000,
    float("nan"), float("inf"), float("-inf"), -0.5, 1e308,
]  # fmt: skip


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: repr(type(value)))
def test_what_cannot_be_is_refused_naming_the_field(
    parse: Callable[[str, object], object], value: object
) -> None:
    with pytest.raises(BadValue) as refused:
        # The one list among them: "1,5" is two processors.
        parse("the_field", "1-" if value == "1,5" else value)
    assert refused.value.field == "the_field"
    assert str(refused.value).startswith("the_field: ")
    assert refused.value.exit_status == 125
    assert len(str(refused.value)) < 200


@given(
    st.sampled_from(PARSERS),
    st.one_of(
        st.text(max_size=80),
        st.text("0123456789.KMGTPiBdhmsu-:=, unlimited", max_size=80),
        st.integers(),
        st.floats(),
        st.binary(max_size=8),
        st.none(),
        st.booleans(),
    ),
)
def test_garbage_raises_nothing_but_bad_value(
    parse: Callable[[str, object], object], value: object
) -> None:
    with suppress(BadValue):
        parse("field", value)


# ---- sizes


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("256M", 268435456),
        ("1G", 1 << 30),
        ("1.5G", 3 << 29),
        ("64KiB", 65536),
        ("64kb", 65536),
        ("2T", 2 << 40),
        ("1P", 1 << 50),
        ("100", 100),
        ("100B", 100),
        ("0.1M", 104857),
        (4096, 4096),
    ],
)
def test_sizes_are_powers_of_1024_rounded_down_to_bytes(value: object, size: int) -> None:
    assert units.parse_size("mem", value) == size


@pytest.mark.parametrize("value", [0, "0", "0M", "0.0001K", "1.5", "4097P", 2**63, 1.0])
def test_sizes_that_limit_nothing_or_everything_are_refused(value: object) -> None:
    with pytest.raises(BadValue):
        units.parse_size("mem", value)


def test_less_memory_than_a_page_is_none() -> None:
    page = resource.getpagesize()
    assert units.parse_memory("mem", page) == page
    with pytest.raises(BadValue) as refused:
        units.parse_memory("mem", page - 1)
    assert refused.value.hint == f"the least is {units.format_size(page)}"


def test_max_is_taken_only_where_it_means_something() -> None:
    assert units.parse_swap("swap", "max") == "max"
    assert units.parse_swap("swap", 0) == 0
    assert units.parse_pids("pids", "max") == "max"
    assert units.parse_memory_or_max("mem", "max") == "max"
    assert units.parse_cpus_or_max("cpus", "max") == "max"
    assert units.parse_memory_low("mem_low", "0") == 0
    with pytest.raises(BadValue):
        units.parse_size("mem", "max")


@given(st.integers(1, units.SIZE_MAX))
def test_an_exact_size_reads_back_as_itself(size: int) -> None:
    assert units.parse_size("mem", units.format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "exact", "measured"),
    [
        (268435456, "256M", "256.0M"),
        (268435457, "268435457", "256.0M"),
        (3 << 29, "1536M", "1.5G"),
        (0, "0", "0"),
        (1023, "1023", "1023"),
    ],
)
def test_sizes_are_shown_as_limits_or_as_measurements(size: int, exact: str, measured: str) -> None:
    assert units.format_size(size) == exact
    assert units.format_size(size, exact=False) == measured


# ---- times


@pytest.mark.parametrize(
    ("value", "usec"),
    [
        ("10s", 10_000_000),
        ("500ms", 500_000),
        ("2m", 120_000_000),
        ("1h30m", 5_400_000_000),
        ("1d", 86_400_000_000),
        ("1.5h", 5_400_000_000),
        ("20us", 20),
        ("10", 10_000_000),
        ("0.25", 250_000),
        (3, 3_000_000),
        (0.1, 100_000),
        (1e-9, 1),
        ("0.0000001", 1),
    ],
)
def test_durations_are_seconds_unless_they_carry_units(value: object, usec: int) -> None:
    assert units.parse_duration("time", value) == usec


@pytest.mark.parametrize("value", ["30m1h", "1h1h", "1h30", "10S", "1w", 0, "0s", "101000d"])
def test_durations_that_are_no_durations(value: object) -> None:
    with pytest.raises(BadValue):
        units.parse_duration("time", value)


def test_no_grace_at_all_is_a_grace() -> None:
    assert units.parse_grace("grace", 0) == 0


@given(st.integers(1, 10**15))
def test_a_duration_reads_back_as_itself(usec: int) -> None:
    assert units.parse_duration("time", units.format_duration(usec)) == usec


# ---- processors


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.5", "50000 100000"),
        (0.5, "50000 100000"),
        ("2", "200000 100000"),
        (1.5, "150000 100000"),
        ("0.01", "1000 100000"),
        ("0.001", "1000 1000000"),
    ],
)
def test_cpus_become_a_quota_that_the_kernel_takes(value: object, text: str) -> None:
    assert str(units.parse_cpus("cpus", value)) == text


@given(st.integers(1000, 8192 * 10**6))
def test_every_share_has_a_quota_of_a_millisecond_at_least(millionths: int) -> None:
    share = units.parse_cpus("cpus", f"{millionths // 10**6}.{millionths % 10**6:06}")
    assert share.quota_usec >= 1000
    assert abs(share.quota_usec / share.period_usec - millionths / 10**6) < 1e-5


@pytest.mark.parametrize("value", [0, "0", "0.0009", 8193, "1s"])
def test_cpus_out_of_range(value: object) -> None:
    with pytest.raises(BadValue):
        units.parse_cpus("cpus", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("3", "3"), (3, "3"), ("0-3,8", "0-3,8"), ("8,2,0-1,3", "0-3,8"), ("1,1", "1"), ("5-5", "5")],
)
def test_cpusets_are_written_as_the_kernel_prints_them(value: object, text: str) -> None:
    assert units.parse_cpuset("cpuset", value) == text


@pytest.mark.parametrize("value", ["3-1", "0-", ",", "0,", "8192", "0-9999", "0-3:1"])
def test_cpusets_that_are_none(value: object) -> None:
    with pytest.raises(BadValue):
        units.parse_cpuset("cpuset", value)


@given(st.sets(st.integers(0, 8191), min_size=1, max_size=50))
def test_a_cpuset_names_exactly_its_processors(numbers: set[int]) -> None:
    text = units.parse_cpuset("cpuset", ",".join(map(str, numbers)))
    again: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        again.update(range(int(first), int(last or first) + 1))
    assert again == numbers


# ---- counts and rlimits


def test_counts_keep_to_their_range() -> None:
    assert units.parse_pids("pids", "64") == 64
    assert units.parse_weight("cpu_weight", 10_000) == 10_000
    for parse, value in (
        (units.parse_pids, 0),
        (units.parse_pids, units.PIDS_MAX + 1),
        (units.parse_weight, 0),
        (units.parse_weight, 10_001),
    ):
        with pytest.raises(BadValue, match="out of range"):
            parse("field", value)


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("nofile=1024", Rlimit(resource.RLIMIT_NOFILE, 1024, 1024)),
        ("nofile=1024:4096", Rlimit(resource.RLIMIT_NOFILE, 1024, 4096)),
        ("core=0", Rlimit(resource.RLIMIT_CORE, 0, 0)),
        ("stack=unlimited", Rlimit(resource.RLIMIT_STACK, -1, -1)),
        ("stack=8M:unlimited", Rlimit(resource.RLIMIT_STACK, 8 << 20, -1)),
    ],
)
def test_rlimits(value: str, limit: Rlimit) -> None:
    assert units.parse_rlimit("rlimit", value) == limit


@pytest.mark.parametrize(
    "value",
    ["nofile", "nofile=", "nofile=5:4", "nofile=unlimited:5", "nofile=1M", "files=5", "=5",
     "nofile=1:2:3", "NOFILE=1", "core=-1", "nofile=7", "nofile=0:4096"],
)  # fmt: skip
def test_rlimits_that_are_none(value: str) -> None:
    with pytest.raises(BadValue, match="rlimit"):
        units.parse_rlimit("rlimit", value)
