"""What a daemon is asked: the same at both ends, and refused by name where it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.errors import BadRequest, BadValue
from jobsup.supervisor.request import Request, Restart
from jobsup.supervisor.spec import Spec

CALLER = {b"LANG": b"C", b"LC_ALL": b"C", b"TERM": b"x", b"TZ": b"UTC", b"SECRET": b"\xff"}

WHEN: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.builds(lambda usec: {"after": f"{usec}us"}, st.integers(0, 10**15)),
    st.builds(lambda n: {"at": f"2026-12-01T02:00:00.{n:09d}Z"}, st.integers(0, 10**9 - 1)),
    st.just({"every": "*/5  2 * * mon"}),
)
AGAIN = st.sampled_from([None, "no", "always", "on-failure", "on-failure:3", "on-failure:1000000"])
RAW = st.binary(min_size=1, max_size=12).filter(lambda raw: not {0, ord("=")} & set(raw))


def journey(request: Request) -> Request:
    return Request.from_plain(json.loads(json.dumps(request.to_plain())))


def refused(field: str, **asked: object) -> BadValue:
    """The refusal that a stranger's request meets; it must name the field."""
    with pytest.raises(BadValue) as caught:
        Request.from_plain({"argv": ["true"], **asked})
    assert caught.value.field == field
    return caught.value


@given(st.lists(RAW, min_size=1), WHEN, AGAIN, st.dictionaries(RAW, RAW, max_size=3))
def test_a_request_is_the_same_after_a_journey(
    argv: list[bytes], when: dict[str, Any], again: str | None, environment: dict[bytes, bytes]
) -> None:
    restart = None if "every" in when else again
    request = Request.make(argv, environment=environment, restart=restart, name="x", **when)
    assert journey(request) == request


def test_what_asks_for_nothing_is_short() -> None:
    assert Request.make(["ls"], cwd="/").to_plain() == {"argv": ["ls"], "cwd": "/"}
    assert Request.from_plain({"argv": ["ls"]}) == Request.make(["ls"], cwd="/")
    nothing = dict.fromkeys(["after", "at", "every", "restart", "environment", "cwd", "mem"])
    assert Request.from_plain({"argv": ["ls"], **nothing}) == Request.make(["ls"], cwd="/")


# ---- the caller's end


def test_a_caller_gives_of_its_variables_what_a_job_takes_unasked() -> None:
    request = Request.of_caller(["ls"], CALLER)
    assert request.environment == {k: v for k, v in CALLER.items() if k != b"SECRET"}


def test_and_what_it_names() -> None:
    request = Request.of_caller(["ls"], CALLER, env=["SECRET", "MISSING", "LANG=de"])
    assert request.environment[b"SECRET"] == b"\xff"
    assert b"MISSING" not in request.environment
    assert journey(request) == request


def test_and_all_of_them_when_all_are_asked_for() -> None:
    assert Request.of_caller(["ls"], CALLER, inherit_env=True).environment == CALLER


def test_a_callers_paths_are_its_own_directorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = Request.of_caller(["./run"], CALLER, rw=".", ro="a:/b").to_plain()
    assert plain["cwd"] == str(tmp_path)
    assert (plain["rw"], plain["ro"]) == ([str(tmp_path)], [f"{tmp_path}/a:/b"])
    assert plain["argv"] == ["./run"]  # inside the job it is the job's directory that counts


def test_the_files_of_env_file_are_read_by_the_caller(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\nSECRET\n")
    request = Request.of_caller(["ls"], CALLER, env_file=file, env=["A=own"])
    assert dict(request.spec.env) == {b"A": b"own", b"B": b"file", b"SECRET": None}
    assert request.environment[b"SECRET"] == b"\xff"
    # The daemon opens no file that somebody names.
    refused("env_file", env_file=str(file))


# ---- the daemon's end


@pytest.mark.parametrize("asked", [None, [], "ls", 5, True, ["argv"]])
def test_what_is_no_object_is_no_request(asked: object) -> None:
    with pytest.raises(BadRequest):
        Request.from_plain(asked)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rw", ["."]),
        ("rw", ["a"]),
        ("ro", "a:/b"),
        ("ro", ["../etc:/b"]),
        ("ro", [{"source": "a", "target": "/b"}]),
        ("root", "tree"),
        ("cwd", ""),
        ("cwd", "."),
        ("io_max", ["data:wbps=1M"]),
        ("tmpfs", "a"),
    ],
)
def test_a_strangers_path_is_relative_to_nothing(field: str, value: object) -> None:
    refusal = refused(field, **{field: value})
    assert refusal.hint is not None or value == ""


def test_and_the_refusal_says_what_would_do() -> None:
    refusal = refused("rw", rw=["data"])
    assert str(refusal) == "rw: 'data' is not an absolute path"
    assert refusal.hint == "begin it with /"


def test_here_it_is_relative_again_afterwards() -> None:
    refused("rw", rw=["data"])
    assert Spec.make(["ls"], rw="data").rw[0].source == os.getcwdb() + b"/data"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("argv", None),
        ("argv", []),
        ("argv", "ls"),
        ("argv", ["a\0b"]),
        ("argv", [1]),
        ("argv", [""]),
        ("mem", True),
        ("mem", -1),
        ("mem", 2**64),
        ("mem", float("nan")),
        ("mem", 1.5),
        ("time", float("nan")),
        ("time", float("inf")),
        ("time", -1),
        ("time", True),
        ("time", 2**64),
        ("cpus", float("nan")),
        ("cpus", True),
        ("pids", True),
        ("oom_group", 1),
        ("merge", "yes"),
        ("user", -1),
        ("user", 2**32 - 1),
        ("user", 2**32),
        ("user", "1000x"),
        ("user", True),
        ("user", "\ud800"),
        ("name", ".."),
        ("name", "/"),
        ("name", "\u202egnp.exe"),
        ("name", ""),
        ("name", "a\0"),
        ("name", 5),
        ("cwd", "/proc/self/fd/3"),
        ("cwd", "/a\0"),
        ("after", -1),
        ("after", "soon"),
        ("after", True),
        ("after", 2**64),
        ("after", float("nan")),
        ("at", "tomorrow"),
        ("at", 5),
        ("at", True),
        ("at", "2026-02-30T00:00"),
        ("every", "* * * *"),
        ("every", 5),
        ("every", "0 0 30 2 *"),
        ("every", "*" * 1000),
        ("restart", "sometimes"),
        ("restart", "on-failure:0"),
        ("restart", "on-failure:-1"),
        ("restart", "on-failure:"),
        ("restart", "always:3"),
        ("restart", "no:"),
        ("restart", True),
        ("restart", {"kind": "no"}),
        ("environment", {"A": None}),
        ("environment", ["A"]),
        ("environment", {"": "x"}),
        ("environment", {"A=": "x"}),
        ("environment", {"A": 1}),
        ("environment", 5),
        ("mmem", "1G"),
        ("shell", True),
        ("argv_", 1),
        ("cls", 1),
        ("self", 1),
        ("directory", "/"),
    ],
)
def test_what_a_stranger_gets_wrong_is_refused_by_name(field: str, value: object) -> None:
    assert os.fsencode(str(refused(field, **{field: value})))


@pytest.mark.parametrize("name", ["", "\u202emem", "a\0", "x" * 1000, "MEM", "a b", "__class__"])
def test_a_strangers_text_is_not_taken_for_a_field(name: str) -> None:
    refused("request", **{name: 1})


def test_no_command_is_no_request() -> None:
    with pytest.raises(BadValue, match="argv is missing") as caught:
        Request.from_plain({"mem": "1G"})
    assert caught.value.field == "argv"


@pytest.mark.parametrize(("name", "meant"), [("evry", "every"), ("restarts", "restart"),
                                             ("memm", "mem"), ("xyzzy", None)])  # fmt: skip
def test_a_name_that_is_none_leads_to_the_nearest(name: str, meant: str | None) -> None:
    with pytest.raises(BadValue, match="is for no option of a job") as caught:
        Request.make(["ls"], **{name: "1"})
    assert caught.value.hint == (f"did you mean {meant}?" if meant else None)


@given(
    st.dictionaries(
        st.text(max_size=8) | st.sampled_from(["argv", "at", "every", "restart"]),
        st.none() | st.booleans() | st.text() | st.lists(st.text()) | st.floats(),
    )
)
def test_no_object_breaks_anything(asked: dict[str, Any]) -> None:
    try:
        request = Request.from_plain(asked)
    except BadValue as refusal:
        assert refusal.field == "request" or refusal.field in asked or refusal.field == "argv"
    else:
        assert journey(request) == request


# ---- when, and how often


@pytest.mark.parametrize(
    ("text", "restart"),
    [
        ("no", Restart()),
        ("always", Restart("always")),
        ("on-failure", Restart("on-failure")),
        ("on-failure:3", Restart("on-failure", 3)),
    ],
)
def test_restart_policies(text: str, restart: Restart) -> None:
    assert Request.make(["ls"], restart=text).restart == restart
    assert str(restart) == text


def test_after_is_a_duration() -> None:
    assert Request.make(["ls"], after="1h30m").after == 5_400_000_000
    assert Request.make(["ls"], after=0).after == 0


def test_one_says_once_when_a_job_is_to_run() -> None:
    assert "excludes at" in str(refused("after", after=1, at="2026-12-01T02:00Z"))
    assert "excludes every" in str(refused("at", at="2026-12-01T02:00Z", every="0 2 * * *"))
    assert "excludes every" in str(refused("after", after=1, every="0 2 * * *"))
    typed = refused("after", after="2s", at="2026-12-01T02:00Z")
    assert str(typed) == "after: '2s' excludes at"
    refused("restart", restart="always", every="0 2 * * *")
    Request.make(["ls"], restart="no", every="0 2 * * *")
    Request.make(["ls"], restart="always", after=5)


def test_what_asks_loads_neither_http_nor_cron() -> None:
    """Each costs a client milliseconds that it has no use for."""
    code = (
        "import sys, jobsup.supervisor.request as r\n"
        "r.Request.of_caller(['ls'], {}, after='5s', restart='always').to_plain()\n"
        "print(*{'aiohttp', 'msgspec', 'cronsim', 'sqlite3', 'asyncio'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []
