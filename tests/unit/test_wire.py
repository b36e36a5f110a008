"""A spec travels as JSON and is the same spec afterwards, whatever bytes are in it."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.isolation import CAPABILITIES, RLIMITS, Scratch
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.wire import from_plain, plain

RAW = st.binary(max_size=20).filter(lambda raw: b"\0" not in raw)
SEGMENT = RAW.filter(lambda raw: raw not in (b"", b".", b"..") and b"/" not in raw)
# Below /srv nothing is a magic link.
PATH = st.lists(SEGMENT, max_size=3).map(lambda parts: b"/".join([b"/srv", *parts]))
SIZE = st.integers(4096, 1 << 62)
USEC = st.integers(1, 100 * 365 * 86_400 * 10**6)
COUNT = st.integers(1, 2**32 - 2)
ID = st.integers(0, 2**32 - 2) | st.from_regex(r"[a-zé][a-z0-9_-]{0,10}", fullmatch=True)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
VARIABLE = RAW.filter(lambda raw: raw and b"=" not in raw)


def exact(usec: int) -> str:
    """A duration as text that means just this many microseconds."""
    return f"{usec}us"


def io_limit(target: bytes, rates: dict[str, int]) -> bytes:
    return target + b":" + ",".join(f"{key}={rate}" for key, rate in rates.items()).encode()


def rlimit(name: str, amounts: tuple[int, int]) -> str:
    soft, hard = sorted(amounts)
    return f"{name}={soft}:{hard}"


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "name": NAME,
    "mem": SIZE,
    "swap": st.integers(0, 1 << 62) | st.just("max"),
    "oom_group": st.booleans(),
    "cpus": st.integers(1, 8192 * 1000).map(lambda n: f"{n / 1000:.3f}")
    | st.integers(1000, 8192 * 10**6).map(lambda n: f"{n // 10**6}.{n % 10**6:06d}"),
    "cpu_weight": st.integers(1, 10_000),
    "cpuset": st.lists(st.integers(0, 8191), min_size=1).map(lambda ns: ",".join(map(str, ns))),
    "pids": st.integers(1, 1 << 22) | st.just("max"),
    "io_max": st.lists(
        st.builds(
            io_limit,
            PATH | st.just(b"8:16"),
            st.dictionaries(st.sampled_from(["rbps", "wbps", "riops", "wiops"]), COUNT, min_size=1),
        ),
        max_size=3,
    ),
    "io_weight": st.integers(1, 10_000),
    "cgroup": st.dictionaries(
        st.sampled_from(["memory.zswap.max", "hugetlb.2MB.max", "cgroup.max.depth"]),
        st.from_regex(r"[ -~]{1,20}", fullmatch=True),
    ),
    "rw": st.lists(st.tuples(PATH, PATH.map(lambda path: b"/rw" + path)), max_size=2),
    "ro": st.lists(st.tuples(PATH, PATH.map(lambda path: b"/ro" + path)), max_size=2),
    "root": PATH,
    "cwd": PATH,
    "net": st.sampled_from(["none", "host"]),
    "hostname": NAME,
    "user": ID,
    "group": ID,
    "groups": st.lists(ID, max_size=3),
    "cap": st.lists(st.sampled_from([*CAPABILITIES, "none", "all", "-kill"]), max_size=3),
    "env": st.dictionaries(VARIABLE, st.none() | RAW, max_size=3),
    "inherit_env": st.booleans(),
    "rlimit": st.lists(
        st.builds(
            rlimit,
            st.sampled_from([*RLIMITS]),
            st.tuples(st.integers(8, 1 << 62), st.integers(8, 1 << 62)),
        )
        | st.just("stack=unlimited")
        | st.just("core=0:unlimited"),
        max_size=3,
        unique_by=lambda limit: limit.partition("=")[0],
    ),
    "oom_score_adj": st.integers(-1000, 1000),
    "time": USEC.map(exact),
    "cpu_time": USEC.map(exact),
    "grace": USEC.map(exact) | st.just(0),
    "output_max": st.integers(0, 1 << 62),
    "output_full": st.sampled_from(["drop", "kill", "block"]),
    "merge": st.booleans(),
}


def a_place_is_given_once(options: dict[str, Any]) -> bool:
    targets = [pair[1] for field in ("rw", "ro") for pair in options.get(field) or ()]
    return len(targets) == len(set(targets))


ANY_OPTIONS = st.fixed_dictionaries({}, optional=OPTIONS).filter(a_place_is_given_once)
ARGV = st.lists(RAW, min_size=1, max_size=4).filter(lambda argv: argv[0] != b"")


def journey(spec: Spec) -> Spec:
    """The spec that arrives where this one was sent to."""
    return Spec.make(**from_plain(json.loads(json.dumps(plain(spec)))))


@given(ARGV, ANY_OPTIONS)
def test_a_spec_is_the_same_after_a_journey(argv: list[bytes], options: dict[str, Any]) -> None:
    spec = Spec.make(argv, **options)
    assert journey(spec) == spec
    # The daemon's own reader and writer of JSON agree, and refuse nothing of it.
    assert msgspec.json.decode(msgspec.json.encode(plain(spec))) == plain(spec)


@given(st.lists(st.tuples(PATH, SIZE), max_size=3, unique_by=lambda pair: pair[0]))
def test_scratch_directories_are_too(wanted: list[tuple[bytes, int]]) -> None:
    spec = dataclasses.replace(Spec.make(["x"]), tmpfs=tuple(Scratch(*pair) for pair in wanted))
    assert journey(spec) == spec


@given(st.integers(1000, 8192 * 10**6))
def test_any_share_of_processors_is_too(millionths: int) -> None:
    spec = Spec.make(["x"], cpus=f"{millionths // 10**6}.{millionths % 10**6:06d}")
    assert journey(spec) == spec


def test_every_option_that_there_is_was_on_a_journey() -> None:
    assert {*OPTIONS, "argv", "mem_high", "mem_low", "tmpfs"} == {
        field.name for field in dataclasses.fields(Spec)
    }
    spec = Spec.make(["x"], mem_low="1M", mem_high="1.5M", mem="2M")
    assert journey(spec) == spec


def test_defaults_are_left_out_and_the_directory_never() -> None:
    assert plain(Spec.make(["ls"], cwd="/", pids=4096, merge=False)) == {"argv": ["ls"], "cwd": "/"}


def test_what_is_written_is_what_people_would_write() -> None:
    spec = Spec.make(
        ["prog", b"\xff"],
        mem="256M",
        time="90s",
        grace="1.5s",
        cpus="0.5",
        rw=["/a", "/b:/c", (b"/with:colon", b"/d"), b"/\xff"],
        tmpfs=["/t", r"/u\:v:1M"],
        io_max=["/srv:wbps=10M", "8:0:rbps=max"],
        env=["A=1", "HOME"],
        rlimit=["nofile=10:20", "stack=unlimited"],
        groups="none",
        cap="none,net_raw",
        cwd="/",
    )
    assert plain(spec) == {
        "argv": ["prog", {"base64": "/w=="}],
        "mem": 268435456,
        "time": 90,
        "grace": "1s500ms",
        "cpus": 0.5,
        "rw": ["/a", "/b:/c", {"source": "/with:colon", "target": "/d"}, {"base64": "L/8="}],
        "tmpfs": ["/t:1073741824", {"target": "/u:v", "size": 1048576}],
        "io_max": ["/srv:wbps=10485760", "8:0:rbps=max"],
        "env": {"A": "1", "HOME": None},
        "rlimit": {"nofile": "10:20", "stack": "unlimited:unlimited"},
        "groups": [],
        "cap": ["none", "net_raw"],
        "cwd": "/",
    }


def test_a_variable_may_be_called_base64() -> None:
    assert Spec.make(["x"], **from_plain({"env": {"base64": "eA=="}})).env == (
        (b"base64", b"eA=="),
    )


def test_text_is_utf_8_whatever_the_locale_is() -> None:
    assert from_plain({"argv": ["é"]}) == {"argv": ["é".encode()]}


def test_what_a_command_line_could_say_can_be_read() -> None:
    asked = {"mem": "1G", "rw": "/a", "env": ["A=1"], "rlimit": {"nofile": [1024, 2048]}}
    spec = Spec.make(["x"], **from_plain(asked))
    assert spec.mem == 1 << 30
    assert (spec.rw[0].source, spec.env) == (b"/a", ((b"A", b"1"),))
    assert (spec.rlimit[0].soft, spec.rlimit[0].hard) == (1024, 2048)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("argv", ["\ud800"]),
        ("argv", ["\udcff"]),
        ("argv", [{"base64": "?"}]),
        ("argv", [{"base64": 5}]),
        ("argv", [{"base64": None}]),
        ("argv", [{"base64": "eA==", "more": 1}]),
        ("argv", [{"base64": "AA=="}]),
        ("argv", {"base64": "eA=="}),
        ("argv", [["a"]]),
        ("cwd", {"source": "/a"}),
        ("rw", [{"source": "/a"}]),
        ("rw", [{"source": "/a", "target": "/b", "more": 1}]),
        ("rw", {"target": "/a"}),
        ("rw", [["/a", "/b"]]),
        ("rw", {"source": "/a", "target": {"base64": "?"}}),
        ("tmpfs", [{"target": "/a", "size": True}]),
        ("tmpfs", [{"target": "/a", "size": 2**64}]),
        ("env", {"A": {"base64": []}}),
        ("env", {"A": 1}),
        ("env", {"A": ["x"]}),
        ("env", {"\ud800": "x"}),
        ("env", 5),
        ("rlimit", {"nofile": [True, 5]}),
        ("rlimit", {"nofile": {"soft": 5}}),
        ("cap", {"none": 1}),
        ("cgroup", {"pids.max": {}}),
        ("groups", {"a": 1}),
        ("io_max", {"/srv": {"wbps": 1}}),
    ],
)
def test_what_stands_for_no_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(BadValue) as caught:
        Spec.make(**{"argv": ["x"], **from_plain({field: value})})
    assert caught.value.field == field
    assert os.fsencode(str(caught.value))  # it can be shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([field.name for field in dataclasses.fields(Spec)]), JSON)
def test_no_value_in_json_breaks_anything(field: str, value: object) -> None:
    try:
        spec = Spec.make(**{"argv": ["x"], **from_plain({field: value})})
    except BadValue as refusal:
        assert refusal.field == field
    else:
        assert journey(spec) == spec
