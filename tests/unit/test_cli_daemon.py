"""The commands that talk to a daemon, against one that only says what it was told to say."""

# ruff: noqa: ANN401 - what travels is JSON

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobsup.cli import core
from jobsup.cli.core import Core
from jobsup.cli.main import invoke
from jobsup.supervisor import protocol
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.doctor import Finding
from jobsup.supervisor.request import Request
from tests.fake_daemon import (
    JOB,
    Answer,
    FakeDaemon,
    ended,
    error,
    job_status,
    json_answer,
    verdict,
)

REPO = Path(__file__).resolve().parents[2]
STATUS, OUT, WAIT = f"GET /jobs/{JOB}/status", f"GET /jobs/{JOB}/out", f"GET /jobs/{JOB}/wait"


class Cli:
    """`jobsup ARGUMENTS` at a daemon's socket."""

    def __init__(self, daemon: FakeDaemon, capture: pytest.CaptureFixture[str]) -> None:
        self.daemon = daemon
        self._capture = capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(status, stdout, stderr)"""
        os.environ["JOBSUP_SOCKET"] = str(self.daemon.path)
        status = invoke(arguments, Core())
        return (status, *self._capture.readouterr())


@pytest.fixture
def cli(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("JOBSUP_SOCKET", "")
    with FakeDaemon(tmp_path / "jobsup.sock") as daemon:
        daemon.answers[STATUS] = [json_answer(job_status())]
        yield Cli(daemon, capfd)


def summary(number: int = 0, **more: Any) -> dict[str, Any]:
    told = job_status()
    names = "name state user argv attempt queued_at started_at ended_at due_at".split()
    line = {name: told[name] for name in names}
    return {"id": f"{number:019x}", **line, "cause": None, "status": None, "message": None, **more}


def test_the_socket_is_the_protocols() -> None:
    assert core.SOCKET == protocol.SOCKET
    assert core.SOCKET_VARIABLE == protocol.SOCKET_VARIABLE


AT_ONCE = [
    "start true", "ls", "status x", "out x", "stop x", "kill x", "pause x", "resume x",
    "set x --mem 1M", "rm x", "prune", "explain x", "control", "ping",
]  # fmt: skip
LASTING = ["wait x", "out --follow x", "events"]
EVERY = [*AT_ONCE, *LASTING]


@pytest.mark.parametrize("line", [*AT_ONCE, "run --socket {} true"])
def test_without_a_daemon_each_command_says_so(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / "none"))
    assert invoke(line.format(tmp_path / "none").split(), Core()) == 125
    err = capfd.readouterr().err
    assert f"{tmp_path}/none: there is no such socket" in err
    assert "hint: start one: sudo jobsup serve" in err


@pytest.mark.parametrize("line", EVERY)
def test_each_command_names_the_socket_by_a_flag(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = line.split()
    socket = tmp_path / "none" / "socket"  # of no daemon that there ever was
    assert invoke([verb, "--socket", str(socket), *rest], Core()) == 125
    assert capfd.readouterr().err.startswith(f"jobsup: {socket}: there is no such socket")


@pytest.mark.parametrize("line", LASTING)
def test_what_lasts_waits_a_moment_for_a_daemon(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr("jobsup.cli.client._MOMENT", 0.1)
    assert invoke(line.split(), Core()) == 125
    first, second, hint = capfd.readouterr().err.splitlines()
    assert first == f"{second}; waiting 0.1 s for one"
    assert second.endswith("there is no such socket, so no daemon")
    assert hint.startswith("hint: start one")


@pytest.mark.parametrize("line", ["wait -q x", "wait --timeout 0 x"])
def test_a_wait_for_a_daemon_is_part_of_the_wait(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr("jobsup.cli.client._MOMENT", 0.1 if "-q" in line else 3600)
    assert invoke(line.split(), Core()) == 125
    assert ("waiting" in capfd.readouterr().err) == ("-q" not in line)


def test_a_daemon_that_comes_back_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "jobsup.sock"
    command = [sys.executable, "-I", "-m", "jobsup", "wait", f"--socket={path}", JOB]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith("waiting 10 s for one\n")
        with FakeDaemon(path) as daemon:
            daemon.answers[STATUS] = [json_answer(ended("exited", 3))]
            assert process.wait(60) == 3


# ---- start


def test_start_prints_the_id_alone(cli: Cli, tmp_path: Path) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"}, 201)]
    assert cli("start", "--mem", "1M", "--restart", "on-failure:3", "--", "ls", "--mem") == (
        0,
        f"{JOB}\n",
        "",
    )
    asked = cli.daemon.requests[-1].json
    assert (asked["argv"], asked["mem"]) == (["ls", "--mem"], 1 << 20)
    assert asked["restart"] == "on-failure:3"
    assert asked["cwd"] == str(Path.cwd())


@pytest.mark.parametrize("line", ["--json - -- true", "--json x.json -- true", "--json - true"])
def test_a_file_for_a_verdict_is_not_taken_for_the_command(cli: Cli, line: str) -> None:
    status, _, err = cli("start", *line.split())
    assert (status, cli.daemon.requests) == (125, [])
    assert err.startswith("jobsup: --json takes no value, and '")


@pytest.mark.parametrize("line", ["--json true -", "--json -- x -- y", "x --json - -- y"])
def test_a_command_with_words_like_these_is_one(cli: Cli, line: str) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"}, 201)]
    assert cli("start", *line.split())[0] == 0


def test_a_time_that_has_passed_is_told(cli: Cli) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"}, 201)]
    told = "jobsup: --at 2020-01-01T00:00Z has passed: the job starts now\n"
    assert cli("start", "--at", "2020-01-01T00:00Z", "true") == (0, f"{JOB}\n", told)
    assert cli("start", "--at", "2199-01-01T00:00Z", "true") == (0, f"{JOB}\n", "")
    assert cli("start", "--at", "noon", "true")[2].startswith("jobsup: --at: 'noon' is not a time")


def test_start_with_a_file_for_stdin(cli: Cli, tmp_path: Path) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"})]
    (tmp_path / "in").write_bytes(b"the input")
    assert cli("start", "--stdin", str(tmp_path / "in"), "cat")[0] == 0
    assert b"\r\nthe input\r\n" in cli.daemon.requests[-1].body


def test_start_with_our_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"})]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\0 input")))
    assert cli("start", "--stdin", "-", "cat")[0] == 0
    assert b"\r\n\xff\0 input\r\n" in cli.daemon.requests[-1].body


def test_what_a_daemon_refuses_names_the_flag(cli: Cli) -> None:
    refused = {"field": "mem_high", "value": "2G", "why": "is above {mem}", "remedy": "raise {mem}"}
    cli.daemon.answers["POST /jobs/run"] = [error("bad-value", "x", 400, **refused)]
    status, out, err = cli("start", "true")
    assert (status, out) == (125, "")
    assert err == "jobsup: --mem-high: '2G' is above --mem\nhint: raise --mem\n"


def test_what_is_wrong_is_refused_here_without_a_daemon(cli: Cli) -> None:
    assert cli("start", "--mem", "lots", "true")[0] == 125
    assert cli.daemon.requests == []


def test_an_env_file_is_read(cli: Cli, tmp_path: Path) -> None:
    cli.daemon.answers["POST /jobs/run"] = [json_answer({"id": JOB, "state": "running"})]
    (tmp_path / "env").write_text("# a comment\nA=1\nB=two words\n\n")
    assert cli("start", "--env-file", str(tmp_path / "env"), "--env", "A=2", "true")[0] == 0
    assert cli.daemon.requests[-1].json["env"] == {"A": "2", "B": "two words"}


# ---- ls


def test_ls_shows_what_has_not_ended(cli: Cli) -> None:
    jobs = [summary(1, name="build", argv=["make", "-j 4"]), summary(2, state="queued")]
    cli.daemon.answers["GET /jobs"] = [
        json_answer({"jobs": [jobs[1]], "next": None}),
        json_answer({"jobs": [], "next": None}),
        json_answer({"jobs": [jobs[0]], "next": None}),
        json_answer({"jobs": [], "next": None}),
    ]
    status, out, _ = cli("ls")
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["ID", "NAME", "USER", "STATE", "WHEN", "COMMAND"]
    assert {line.split()[0] for line in lines} == {jobs[0]["id"], jobs[1]["id"]}
    assert any(line.endswith("make '-j 4'") for line in lines)
    states = [asked.query["state"] for asked in cli.daemon.asked("GET", "/jobs")]
    assert states == ["queued", "starting", "running", "paused", "stopping"]


def test_ls_all_asks_for_everything_page_by_page(cli: Cli) -> None:
    done = {"state": "failed", "cause": "memory", "status": 137, "ended_at": "2026-01-01T00:00:09Z"}
    cli.daemon.answers["GET /jobs"] = [
        json_answer({"jobs": [summary(9, **done)], "next": "7"}),
        json_answer({"jobs": [summary(1)], "next": None}),
    ]
    _, out, _ = cli("ls", "-a")
    assert "failed (memory)" in out
    assert [asked.query.get("state") for asked in cli.daemon.asked("GET", "/jobs")] == [None, None]


def test_ls_for_programs(cli: Cli) -> None:
    answer = json_answer({"jobs": [summary(1), summary(2)], "next": None})
    cli.daemon.answers["GET /jobs"] = [answer]
    assert cli("ls", "-aq")[1] == f"{1:019x}\n{2:019x}\n"
    lines = cli("ls", "-a", "--json")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"{1:019x}", f"{2:019x}"]


def test_nobodys_text_reaches_a_terminal_as_a_command(cli: Cli) -> None:
    evil = summary(1, name="a\x1b[2Jb", argv=["x\x07", "\u202egnp.exe", "a\nb", "\x9b31m"])
    cli.daemon.answers["GET /jobs"] = [json_answer({"jobs": [evil], "next": None})]
    out = cli("ls", "-a")[1]
    assert len(out.splitlines()) == 2
    assert out.replace("\n", "").isprintable()
    told = job_status(name="a\x1b]0;b", argv=["\x1b[31m"], reason="\x1b[5m")
    cli.daemon.answers[STATUS] = [json_answer(told)]
    for verb in ("status", "explain"):
        assert cli(verb, JOB)[1].replace("\n", "").isprintable()
        assert cli(verb, "--json", JOB)[1].replace("\n", "").isprintable()


EVIL = "/\x1b]0;owned\x07\x9b2J\u202e\nx"


def test_an_error_of_somebodys_job_is_no_command_either(cli: Cli) -> None:
    ended_so = ended("setup", 125, message=f"{EVIL}: is not there", hint=f"use {EVIL}")
    cli.daemon.answers[WAIT] = cli.daemon.answers[STATUS] = [json_answer(ended_so)]
    refused = error("wrong-state", f"job {EVIL} has ended", hint=EVIL, status=409)
    for verb in ("stop", "kill", "pause"):
        cli.daemon.answers[f"PUT /jobs/{JOB}/{verb}"] = [refused]
    no_path = error("path-refused", f"{EVIL}: x", field="cwd", value=EVIL, hint=EVIL, status=422)
    cli.daemon.answers["POST /jobs/run"] = [no_path]
    commands = [[verb, JOB] for verb in ("wait", "stop", "kill", "pause", "explain", "status")]
    commands += [["start", "--cwd", EVIL, "true"], ["stop", f"--{EVIL}"]]
    for arguments in commands:
        _, out, err = cli(*arguments)
        for line in (out + err).splitlines():
            assert line.isprintable(), arguments
            assert not line.startswith("x"), arguments
        assert r"\x1b]0;owned\x07\x9b2J\u202e" in out + err, arguments


def test_only_what_can_be_tried_follows_try(cli: Cli) -> None:
    for failure, told in ((None, "; use one"), ({"step": "x"}, "; try use one")):
        end = ended("setup", 125, message="no", hint="use one", setup_failure=failure)
        cli.daemon.answers[WAIT] = cli.daemon.answers[STATUS] = [json_answer(end)]
        assert cli("wait", JOB)[2] == f"jobsup: no{told}\n"
        assert cli("explain", JOB)[1].endswith(f"\n{told[2:]}\n")
        label = "hint" if failure is None else "try"
        assert re.search(rf"^{label} +use one$", cli("status", JOB)[1], re.MULTILINE)


def in_terminal(columns: int, arguments: Sequence[str], socket: Path) -> tuple[int, bytes]:
    """What a terminal of this width shows of the command, and its status."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {**os.environ, "JOBSUP_SOCKET": str(socket), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-I", "-m", "jobsup", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # EIO: the last one has closed it
            pass
        os.close(ours)
    return process.returncode, shown


@pytest.mark.parametrize("columns", [100, 80, 70])
def test_a_table_fits_the_terminal(cli: Cli, columns: int) -> None:
    due: dict[str, Any] = {"state": "queued", "started_at": None, "due_at": "9999-01-01T00:00:00Z"}
    killed: dict[str, Any] = {
        "state": "stopped",
        "cause": "killed",
        "ended_at": "2026-01-01T00:00:09Z",
    }
    jobs = [summary(n, name="n" * 64, argv=["x" * 300], **of) for n, of in enumerate((due, killed))]
    cli.daemon.answers["GET /jobs"] = [json_answer({"jobs": jobs, "next": None})]
    status, shown = in_terminal(columns, ["ls", "-a"], cli.daemon.path)
    assert status == 0
    head, *lines = shown.decode().splitlines()
    assert [len(line) for line in lines] == [columns, columns]
    assert len(head) <= columns
    assert all("n…" in line and line.endswith("…") for line in lines)


def test_a_job_that_is_due_later_says_when(cli: Cli) -> None:
    soon, past = ("9999-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
    waits = summary(1, state="queued", started_at=None, due_at=soon)
    came = summary(2, state="queued", started_at=None, due_at=past)
    cli.daemon.answers["GET /jobs"] = [json_answer({"jobs": [waits, came], "next": None})]
    first, second = cli("ls", "-a")[1].splitlines()[1:]
    assert re.search(r" queued  in [0-9]+d  sleep 60$", first)
    assert re.search(r" queued  [0-9]+[dhms] +sleep 60$", second)
    assert json.loads(cli("ls", "-a", "--json")[1].splitlines()[0])["due_at"] == soon
    told = job_status("queued", started_at=None, due_at=soon, reason="waits for its time")
    cli.daemon.answers[STATUS] = [json_answer(told)]
    assert re.search(rf"^due +{soon} \(in [0-9]+d\)$", cli("status", JOB)[1], re.MULTILINE)
    assert f"queued: waits for its time, due {soon} (in " in cli("explain", JOB)[1]


# ---- status, explain


def test_status_json_is_the_verdict_and_more(cli: Cli) -> None:
    cli.daemon.answers[STATUS] = [json_answer(ended("memory", 137, hint="--mem 512M"))]
    told = json.loads(cli("status", JOB, "--json")[1])
    wanted = verdict("memory", 137, hint="--mem 512M")
    assert {name: told[name] for name in wanted} == wanted
    assert told["attempt"] == 1
    assert told["request"] == {"argv": ["sleep", "60"]}


def test_status_json_of_a_job_that_goes_on_invents_nothing(cli: Cli) -> None:
    cli.daemon.answers[STATUS] = [json_answer(job_status(verdict=verdict("exited", 1), attempt=2))]
    told = json.loads(cli("status", JOB, "--json")[1])
    assert set(verdict()) <= set(told)
    assert (told["state"], told["cause"], told["status"]) == ("running", None, None)


def test_status_for_people(cli: Cli) -> None:
    now = {"memory": 10 << 20, "cpu_usec": 1_500_000, "pids": 3}
    cli.daemon.answers[STATUS] = [json_answer(job_status(name="build", current=now))]
    out = cli("status", JOB)[1]
    assert "memory 10.0M, cpu 1.5s, 3 processes" in out
    assert "pids 4096" in out


def test_status_speaks_of_limits_as_the_flags_do(cli: Cli) -> None:
    limits = {
        "memory.max": str(32 << 20), "memory.swap.max": "0", "memory.oom.group": "1",
        "cpu.max": "50000 100000", "cpuset.cpus": "0-3", "memory.zswap.max": "7",
    }  # fmt: skip
    request = {"argv": ["x"], "time": 5400, "restart": "on-failure:3", "cpu_time": "1s500ms"}
    cli.daemon.answers[STATUS] = [json_answer(job_status(limits=limits, request=request))]
    lines = dict(line.split(maxsplit=1) for line in cli("status", JOB)[1].splitlines())
    assert lines["limits"] == (
        "mem 32M, swap 0, oom-group, cpus 0.5, cpuset 0-3, memory.zswap.max 7"
    )
    assert (lines["time"], lines["cpu-time"]) == ("1h30m", "1s500ms")
    assert lines["restart"] == "on-failure:3"


def test_status_of_a_queued_job_has_the_limits_that_it_asks_for(cli: Cli) -> None:
    asked = Request.make(
        ["x"], mem="32M", swap="max", cpus="0.5", oom_group=False, cgroup=["memory.zswap.max=7"],
        io_max=["/dev/sda:rbps=1M"],
    )  # fmt: skip
    old = {"memory.max": str(1 << 30)}  # of an attempt before
    told = job_status("queued", request=asked.to_plain(), limits=old)
    cli.daemon.answers[STATUS] = [json_answer(told)]
    lines = dict(line.split(maxsplit=1) for line in cli("status", JOB)[1].splitlines())
    assert lines["limits"] == (
        "mem 32M, swap max, cpus 0.5, no-oom-group, io-max /dev/sda:rbps=1048576, "
        "memory.zswap.max 7"
    )
    cli.daemon.answers[STATUS] = [json_answer(job_status("queued", limits=old))]
    assert "limits" not in cli("status", JOB)[1]


def test_since_has_two_forms(cli: Cli) -> None:
    refused = {"field": "since", "value": "noon", "why": "is not a duration", "remedy": "90s"}
    cli.daemon.answers[OUT] = [error("bad-value", "x", 400, **refused)]
    status, _, err = cli("out", "--since", "noon", JOB)
    assert status == 125
    assert err.splitlines() == [
        "jobsup: --since: 'noon' is no time and no duration",
        "hint: 10m (ago), or 2026-12-01T02:00:00Z",
    ]


def test_a_number_of_lines_is_refused_by_its_flag(cli: Cli) -> None:
    status, _, err = cli("out", "--tail", "-1", JOB)
    assert (status, cli.daemon.requests) == (125, [])
    assert err.startswith("jobsup: --tail: '-1' ")
    assert "[x>=" not in cli("out", "--help")[1]


@pytest.mark.parametrize(("uid", "hint"), [(0, None), (1000, "hint: ask root\n")])
def test_what_only_root_may_leads_to_root(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, uid: int, hint: str | None
) -> None:
    cli.daemon.answers["PUT /control/stop"] = [error("forbidden", "only root may do this", 403)]
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert cli("control", "unready")[2] == f"jobsup: only root may do this\n{hint or ''}"


def test_explain_tells_the_story(cli: Cli) -> None:
    told = ended(
        "memory",
        137,
        message="memory limit 64M reached: the kernel killed python3, peak 64.0M",
        hint="--mem 128M",
        limits={"memory.max": str(64 << 20)},
        usage={"memory_peak": 64 << 20},
        events={"oom": 1, "oom_kill": 1, "pids_max": 0},
    )
    cli.daemon.answers[STATUS] = [json_answer(told)]
    out = cli("explain", JOB)[1]
    assert "failed: memory limit 64M reached" in out
    assert "memory: 64.0M at its peak of 64M" in out
    assert "the kernel counted oom 1, oom_kill 1" in out
    assert out.endswith("try --mem 128M\n")


# ---- out

HEADER = struct.Struct("<IIQQ")


def frame(stream: int, data: bytes, time_ns: int = 1_767_225_600_000_001_000) -> bytes:
    return HEADER.pack(stream, len(data), 0, time_ns) + data


def test_out_keeps_the_streams_apart(cli: Cli) -> None:
    body = frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"three")
    cli.daemon.answers[OUT] = [Answer(chunks=[body])]
    assert cli("out", JOB) == (0, "one\nthree", "two\n")
    asked = cli.daemon.requests[-1].query
    assert asked == {"frames": "1"}


def test_out_of_one_stream_is_the_raw_bytes(cli: Cli) -> None:
    running = json_answer(job_status())
    cli.daemon.answers[STATUS] = [running, running, json_answer(ended())]
    cli.daemon.answers[OUT] = [Answer(chunks=[b"a\x1b", b"b"])]
    assert cli("out", "-f", "--stream", "stderr", JOB) == (0, "a\x1bb", "")
    (asked,) = cli.daemon.asked("GET", OUT.removeprefix("GET "))
    assert asked.query == {"stream": "stderr", "follow": "1", "attempt": "1"}


def test_out_with_times(cli: Cli) -> None:
    body = frame(1, b"on") + frame(2, b"err\r\n") + frame(1, b"e\n\ntwo\n")
    cli.daemon.answers[OUT] = [Answer(chunks=[body])]
    _, out, err = cli("out", "--timestamps", "--since", "10m", "--tail", "3", JOB)
    time = "2026-01-01T00:00:00.000001Z"
    assert out == f"{time} one\n{time} \n{time} two\n"
    assert err == f"{time} err\r\n"
    asked = cli.daemon.requests[-1].query
    assert (asked["since"], asked["tail"]) == ("10m", "3")


def test_a_reader_of_out_that_has_enough_is_no_error(cli: Cli) -> None:
    cli.daemon.answers[OUT] = [Answer(chunks=[b"x" * 65536] * 64)]
    socket = f"--socket={cli.daemon.path}"
    command = f'"$0" -I -m jobsup out {socket} --stream stdout {JOB}'
    script = f"{command} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, b"x", b"")


# ---- wait and the verbs


def test_wait_exits_as_the_job_did(cli: Cli) -> None:
    told = ended("timeout", 124, message="time limit 1s reached", hint="--time 2s")
    cli.daemon.answers[WAIT] = [json_answer(told)]
    assert cli("wait", JOB) == (124, "", "jobsup: time limit 1s reached; try --time 2s\n")
    assert cli("wait", "--quiet", JOB) == (124, "", "")
    status, out, _ = cli("wait", "--json", JOB)
    assert (status, json.loads(out)["cause"]) == (124, "timeout")


def test_wait_for_several_tells_of_the_first_that_failed(cli: Cli) -> None:
    for name, status in (("a", 0), ("b", 3), ("c", 4)):
        cli.daemon.answers[f"GET /jobs/{name}/status"] = [
            json_answer({**ended("exited", status), "id": name})
        ]
        cli.daemon.answers[f"GET /jobs/{name}/wait"] = [json_answer(ended("exited", status))]
    assert cli("wait", "-q", "a", "b", "c")[0] == 3


def test_wait_shows_on_a_terminal_how_it_goes(cli: Cli) -> None:
    now = {"memory": 5 << 20, "cpu_usec": 0, "pids": 1}
    cli.daemon.answers[STATUS] = [json_answer(job_status(current=now))]
    cli.daemon.answers[WAIT] = [json_answer(job_status()), json_answer(ended())]
    status, shown = in_terminal(80, ["wait", JOB], cli.daemon.path)
    assert status == 0
    assert b"running" in shown
    assert b"memory 5.0M" in shown
    assert shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (["kill", "-s", "HUP"], "PUT", "/signal", {"signal": "HUP"}),
        (["pause"], "PUT", "/pause", None),
        (["resume"], "PUT", "/resume", None),
        (["set", "--mem", "512M", "--cpus", "2"], "PUT", "/set", {"mem": "512M", "cpus": "2"}),
        (["stop", "--no-wait", "--grace", "1s"], "PUT", "/stop", {"signal": None, "grace": "1s"}),
        (["rm"], "DELETE", "", None),
    ],
)
def test_a_verb_asks_for_each_job(
    cli: Cli, arguments: list[str], method: str, path: str, body: object
) -> None:
    cli.daemon.answers["GET /jobs/build/status"] = [json_answer(job_status())]
    cli.daemon.answers[f"{method} /jobs/{JOB}{path}"] = [json_answer(job_status())]
    assert cli(*arguments, "build", JOB) == (0, "", "")
    asked = cli.daemon.asked(method, f"/jobs/{JOB}{path}")
    assert [json.loads(each.body) if each.body else None for each in asked] == [body, body]


def test_an_error_of_one_job_is_told_and_the_others_are_done(cli: Cli) -> None:
    cli.daemon.answers["GET /jobs/absent/status"] = [
        error("not-found", "there is no job absent", 404)
    ]
    cli.daemon.answers[f"PUT /jobs/{JOB}/pause"] = [json_answer(job_status())]
    status, out, err = cli("pause", "absent", JOB)
    assert (status, out, err) == (125, "", "jobsup: there is no job absent\n")
    assert cli.daemon.asked("PUT", f"/jobs/{JOB}/pause")


def test_stop_waits_for_the_end(cli: Cli) -> None:
    cli.daemon.answers[f"PUT /jobs/{JOB}/stop"] = [json_answer(job_status("stopping"))]
    cli.daemon.answers[WAIT] = [json_answer(ended("stopped", 143))]
    assert cli("stop", JOB) == (0, "", "")
    assert cli.daemon.asked("GET", f"/jobs/{JOB}/wait")


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_what_has_ended_is_stopped_already_and_a_note_says_how(cli: Cli, verb: str) -> None:
    told = f"job {JOB} has ended (completed): exited with code 0"
    cli.daemon.answers[STATUS] = [json_answer(ended())]
    cli.daemon.answers[f"PUT /jobs/{JOB}/{verb}"] = [error("wrong-state", told, 409)]
    assert cli(verb, JOB) == (0, "", f"jobsup: {told}\n")


def test_a_signal_that_nobody_gets_is_an_error(cli: Cli) -> None:
    told = f"job {JOB} has ended (completed): exited with code 0"
    cli.daemon.answers[STATUS] = [json_answer(ended())]
    cli.daemon.answers[f"PUT /jobs/{JOB}/signal"] = [error("wrong-state", told, 409)]
    assert cli("kill", "-s", "HUP", JOB) == (125, "", f"jobsup: {told}\n")


def test_what_cannot_be_stopped_now_is_an_error(cli: Cli) -> None:
    cli.daemon.answers[f"PUT /jobs/{JOB}/stop"] = [error("wrong-state", "not now", 409)]
    assert cli("stop", JOB) == (125, "", "jobsup: not now\n")


def test_set_without_a_limit_is_refused(cli: Cli) -> None:
    status, _, err = cli("set", JOB)
    assert (status, cli.daemon.requests) == (125, [])
    assert "no limit" in err


def test_prune_events_control_ping(cli: Cli) -> None:
    cli.daemon.answers["POST /jobs/prune"] = [json_answer({"removed": ["a", "b"]})]
    assert cli("prune", "--older", "1d", "--state", "failed")[1] == "a\nb\n"
    assert cli.daemon.requests[-1].json == {"older": "1d", "state": "failed"}
    event = {"time": "T", "id": JOB, "name": "n\x1b", "user": "u", "attempt": 2, "state": "failed"}
    body = json.dumps({**event, "cause": "memory", "status": 137}).encode() + b"\n"
    cli.daemon.answers["GET /events"] = [Answer(chunks=[body])]
    assert cli("events")[1] == f"T {JOB} (n\\x1b) attempt 2 failed (memory, 137)\n"
    assert json.loads(cli("events", "--json")[1])["state"] == "failed"
    cli.daemon.answers["GET /control"] = [json_answer({"state": "ready"})]
    cli.daemon.answers["PUT /control/stop"] = [json_answer({"state": "unready"})]
    assert cli("control")[1] == "ready\n"
    assert cli("control", "unready")[1] == "unready\n"
    assert cli("ping")[1] == "2026-01-01T00:00:00Z\n"
    assert json.loads(cli("ping", "--json")[1])["api"] == 1


# ---- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(cli: Cli, shell: str) -> None:
    status, out, err = cli("completion", shell)
    assert (status, err) == (0, "")
    assert "_JOBSUP_COMPLETE" in out


def test_the_directory_of_fishs_completions_is_made_first(cli: Cli) -> None:
    lines = [line.split("fish: ")[-1].strip() for line in cli("completion", "-h")[1].splitlines()]
    at = lines.index("mkdir -p ~/.config/fish/completions")
    assert lines[at + 1] == "jobsup completion fish > ~/.config/fish/completions/jobsup.fish"


def test_a_wait_that_is_given_up_says_after_how_long(cli: Cli) -> None:
    cli.daemon.answers[WAIT] = [json_answer(job_status())]
    status, _, err = cli("wait", "--timeout", "1", JOB)
    assert (status, err) == (125, f"jobsup: job {JOB} has not ended after 1 s\n")


def completed(words: str, number: int, socket: Path) -> list[str]:
    environment = {
        **os.environ,
        "JOBSUP_SOCKET": str(socket),
        "_JOBSUP_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
    }
    program = [sys.executable, "-I", "-m", "jobsup"]
    done = subprocess.run(program, env=environment, capture_output=True, check=True, timeout=60)
    return [line.partition(",")[2] for line in done.stdout.decode().splitlines() if line]


def test_jobs_are_completed_by_id_and_name(cli: Cli, tmp_path: Path) -> None:
    jobs = [summary(1, name="build"), summary(2)]
    cli.daemon.answers["GET /jobs"] = [json_answer({"jobs": jobs, "next": None})]
    words = completed("jobsup stop ", 2, cli.daemon.path)
    assert set(words) == {f"{1:019x}", f"{2:019x}", "build"}
    assert completed("jobsup stop b", 2, cli.daemon.path) == ["build"]
    assert completed("jobsup stop ", 2, tmp_path / "none") == []


def test_a_daemon_that_does_not_answer_holds_no_shell_up(cli: Cli) -> None:
    never = threading.Event()
    cli.daemon.answers["GET /jobs"] = [Answer(before=lambda: never.wait(30))]
    try:
        assert completed("jobsup stop ", 2, cli.daemon.path) == []
    finally:
        never.set()


# ---- doctor


class Examining(Core):
    def examine(self) -> Sequence[Finding]:
        return [Finding("root", False, "uid 1000: much was not tried", "sudo jobsup doctor")]


@pytest.mark.parametrize(("uid", "flags"), [(1000, []), (0, ["--socket"])])
def test_doctor_asks_a_daemon_for_who_may_not_look(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    uid: int, flags: list[str],
) -> None:  # fmt: skip
    seen = {"name": "io.weight", "ok": None, "found": "absent", "remedy": "BFQ"}
    cli.daemon.answers["GET /doctor"] = [json_answer({"ok": True, "findings": [seen]})]
    monkeypatch.setenv("JOBSUP_SOCKET", str(cli.daemon.path))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    words = ["doctor", *(word for flag in flags for word in (flag, str(cli.daemon.path)))]
    assert invoke([*words, "--json"], Examining()) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"ok": True, "findings": [seen]}
    assert err == f"jobsup: as the daemon at {cli.daemon.path} found it\n"
    assert invoke(words, Examining()) == 0
    assert "io.weight  absent" in capfd.readouterr().out


@pytest.mark.parametrize("uid", [0, 1000])
def test_doctor_looks_itself_where_no_daemon_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], uid: int
) -> None:
    monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert invoke(["doctor"], Examining()) == 1
    assert "much was not tried" in capfd.readouterr().out
    assert invoke(["doctor", "--socket", str(tmp_path / "none")], Examining()) == 125


# ---- serve


def test_serve_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Serving(Core):
        def serve(self, options: Any) -> int:
            given.append({name: value for name, value in options.items() if value is not None})
            return 0

    monkeypatch.delenv("JOBSUP_SOCKET", raising=False)
    arguments = "serve --state /s --max-running 5 --budget-mem 1G --budget-cpus 2 --keep 1d"
    assert invoke(arguments.split(), Serving()) == 0
    assert given == [{"state": "/s", "max_running": "5", "memory": "1G", "cpus": "2", "keep": "1d"}]


def test_each_setting_of_a_daemon_has_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """But those of a client that is slow or lies, which nobody would set."""
    given: dict[str, Any] = {}

    class Serving(Core):
        def serve(self, options: Any) -> int:
            given.update(options)
            return 0

    monkeypatch.delenv("JOBSUP_SOCKET", raising=False)
    assert invoke(["serve"], Serving()) == 0
    settings = {field.name for field in dataclasses.fields(Settings)}
    renamed = {"keep_usec": "keep", "lib": "state", "run": "state"}
    unset = {"body_max", "header_seconds"}
    assert {renamed.get(name, name) for name in settings - unset} == set(given)
