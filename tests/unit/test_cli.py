"""The command line: flags reach the spec, ends reach the exit status, errors are shown once."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobsup.cli.core import Core
from jobsup.cli.main import invoke
from jobsup.isolation import (
    EndedBy,
    ExitRecord,
    Finding,
    JobsupError,
    LimitNotEnforceable,
    PathRefused,
)
from jobsup.supervisor.client.blocking import Supervisor
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.verdict import Verdict, judge


@dataclass
class FakeCore(Core):
    """Runs nothing: every job ends as `record` says, or with `error`."""

    record: ExitRecord = field(default_factory=lambda: ExitRecord(0, EndedBy.NOTHING))
    error: BaseException | None = None
    findings: Sequence[Finding] = ()
    ran: list[Spec] = field(default_factory=list)
    stdin: bool | None = None

    def describe(self, spec: Spec) -> Sequence[str]:
        return ["set the host name", f"execute {os.fsdecode(spec.argv[0])}"]

    def run_foreground(self, spec: Spec, *, stdin: bool = True) -> Verdict:
        self.ran.append(spec)
        self.stdin = stdin
        if self.error is not None:
            raise self.error
        return judge(spec, "id", self.record, {"memory.max": "268435456"})

    def daemon_if_any(self, socket: str | None) -> Supervisor | None:
        return None

    def examine(self) -> Sequence[Finding]:
        return self.findings


def spec_of(*arguments: str) -> Spec:
    """The spec that these arguments to `jobsup run` make."""
    core = FakeCore()
    assert invoke(["run", *arguments], core) == 0
    (spec,) = core.ran
    return spec


KILLED = ExitRecord(
    9,
    EndedBy.NOTHING,
    counters={"memory.events": "oom 1\noom_kill 1\n", "memory.peak": "268435456"},
)


# ---- flags


def test_flags_end_where_the_command_begins() -> None:
    spec = spec_of("--mem", "256M", "ls", "-l", "--mem", "--", "--help")
    assert spec == Spec.make(["ls", "-l", "--mem", "--", "--help"], mem="256M")
    assert spec_of("--", "--version").argv == (b"--version",)


def test_every_flag_reaches_the_spec() -> None:
    flags = (
        "--mem 4M --mem-high 3M --mem-low 2M --swap 1M --no-oom-group --cpus 0.5 --cpu-weight 5"
        " --cpuset 0-1 --pids 7 --io-max /srv:wbps=1M --io-max 8:0:riops=5 --io-weight 6"
        " --cgroup misc.max=1 --rw /a --rw /b:/c --ro /d --tmpfs /e:1M --root / --cwd /w"
        " --net host --hostname h --user root --group 0 --groups 1,2 --cap none --cap chown"
        " --env A=1 --env B --inherit-env --rlimit core=0 --oom-score-adj -5 --time 1s"
        " --cpu-time 2s --grace 3s --output-max 1K --output-full kill"
    )
    assert spec_of(*flags.split(), "--", "true") == Spec.make(
        ["true"],
        mem="4M", mem_high="3M", mem_low="2M", swap="1M", oom_group=False, cpus="0.5",
        cpu_weight="5", cpuset="0-1", pids="7", io_max=["/srv:wbps=1M", "8:0:riops=5"],
        io_weight="6", cgroup=["misc.max=1"], rw=["/a", "/b:/c"], ro=["/d"], tmpfs=["/e:1M"],
        root="/", cwd="/w", net="host", hostname="h", user="root", group="0", groups=["1,2"],
        cap=["none", "chown"], env=["A=1", "B"], inherit_env=True, rlimit=["core=0"],
        oom_score_adj="-5", time="1s", cpu_time="2s", grace="3s", output_max="1K",
        output_full="kill",
    )  # fmt: skip


def test_arguments_that_are_no_text_travel() -> None:
    assert spec_of("--", "echo", os.fsdecode(b"\xff")).argv[1] == b"\xff"


# ---- ends


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (ExitRecord(0, EndedBy.NOTHING), 0),
        (ExitRecord(3 << 8, EndedBy.NOTHING), 3),
        (ExitRecord(11, EndedBy.NOTHING), 139),
        (ExitRecord(9, EndedBy.WALL_TIME), 124),
        (ExitRecord(0, EndedBy.STOP), 143),
        (KILLED, 137),
    ],
)
def test_the_exit_status_is_the_verdicts(record: ExitRecord, status: int) -> None:
    assert invoke(["run", "true"], FakeCore(record)) == status


def test_an_abnormal_end_is_explained_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["run", "--mem", "256M", "python3"], FakeCore(KILLED))
    out, err = capsys.readouterr()
    line = "memory limit 256M reached: the kernel killed python3, peak 256.0M; try --mem 512M"
    assert (out, err) == ("", f"jobsup: {line}\n")


@pytest.mark.parametrize("arguments", [["run", "false"], ["run", "--quiet", "false"]])
def test_an_exit_code_speaks_for_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    invoke(arguments, FakeCore(ExitRecord(1 << 8, EndedBy.NOTHING)))
    assert capsys.readouterr() == ("", "")


def test_an_exit_code_with_a_limit_behind_it_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    hit = ExitRecord(1 << 8, EndedBy.NOTHING, counters={"pids.events": "max 3"})
    invoke(["run", "--pids", "4", "make"], FakeCore(hit))
    assert "the pids limit 4 was hit 3 times; try --pids 8" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    """`jobsup run -- yes | head -1`"""
    core = FakeCore(ExitRecord(signal.SIGPIPE, EndedBy.NOTHING))
    assert invoke(["run", "yes"], core) == 141
    assert capsys.readouterr() == ("", "")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--quiet", "python3"], FakeCore(KILLED)) == 137
    assert capsys.readouterr() == ("", "")


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["run", "--mem", "256X", "ls"], "--mem: '256X' is not a size", "512K"),
        (["run", "--mem", "", "ls"], "--mem: '' is not a size", "512K"),
        (["run", "--mem-high", "-1", "ls"], "--mem-high: '-1' is not a size", "512K"),
        (["run", "--cpu-time", "nan", "ls"], "--cpu-time: 'nan' is not a duration", "90s"),
        (["run", ""], "CMD: '' is no command", None),
        (["run"], "Missing argument", "jobsup run --help"),
        (["run", "--rw", "", "ls"], "--rw: '' is not a path", None),
        (["run", "--env", "=x", "ls"], "--env: '' is not a variable's name", "NAME"),
        (["run", "--tmpfs", "sub", "ls"], "--tmpfs: 'sub' is not an absolute path", "/PATH:SIZE"),
        (["run", "--user", "1:5", "ls"], "--user: '1:5' is neither", "--group GROUP"),
        (["run", "--root", "/t", "--ro", "/x:/", "ls"], "--ro: '/x' cannot be /", "--root DIR "),
        (["run", "--ro", "/a", "--rw", "/a", "ls"], "--rw: '/a' is already given by --ro", None),
        (["run", "--rw", "/a", "--ro", "/a", "ls"], "--ro: '/a' is already given by --rw", None),
        (["run", "--mem-low", "2G", "--mem", "1G", "ls"], "--mem-low: '2G' is above --mem (", None),
        (
            ["run", "--pids", "5", "--cgroup", "pids.max=5", "ls"],
            "--cgroup: 'pids.max' is already set by --pids",
            "one of the two",
        ),
        (["run", "--memm", "1G", "ls"], "No such option '--memm'", "did you mean --mem?"),
        (["run", "--xyzzy", "1G", "ls"], "No such option '--xyzzy'", "jobsup run --help"),
        (["run", "-m", "1G", "ls"], "No such option '-m'", "did you mean --mem?"),
        (["run", "--memory=1G", "ls"], "No such option '--memory'", "did you mean --mem?"),
        (["run", "-v/a:/b", "ls"], "No such option '-v'", "--rw SRC:DST or --ro SRC:DST"),
        (["run", "--workdir", "/", "ls"], "No such option '--workdir'", "did you mean --cwd?"),
        (["run", "-e", "A=1", "ls"], "No such option '-e'", "did you mean --env?"),
        (["run", "--timeout", "5", "ls"], "No such option '--timeout'", "did you mean --time?"),
        (["run", "-it", "bash"], "No such option '-i'", "a job has no terminal yet"),
        (["frobnicate"], "No such command 'frobnicate'", "jobsup --help"),
        (["ps"], "No such command 'ps'", "did you mean jobsup ls?"),
        (["logs", "x"], "No such command 'logs'", "did you mean jobsup out?"),
        (["inspect", "x"], "No such command 'inspect'", "did you mean jobsup status?"),
        (["exec", "x", "ls"], "No such command 'exec'", "inside a job yet"),
        (["help"], "No such command 'help'", "did you mean jobsup --help?"),
        (["help", "run"], "No such command 'help'", "did you mean jobsup run --help?"),
        (["help", "nope"], "No such command 'help'", "did you mean jobsup --help?"),
        (["statsu"], "No such command 'statsu'", "did you mean jobsup status?"),
        (["run", "--rm", "ls"], "No such option '--rm'", "nothing is left over"),
        (["run", "-d", "ls"], "No such option '-d'", "did you mean jobsup start?"),
        (["run", "--every", "x", "ls"], "No such option '--every'", "jobsup start --every?"),
        (["run", "-p", "80:80", "ls"], "No such option '-p'", "no ports are forwarded"),
        (["start", "--detach", "ls"], "No such option '--detach'", "goes on by itself"),
        (["start", "--on-active", "1", "ls"], "No such option '--on-active'", "mean --after?"),
        (["start", "--on-calendar=x", "ls"], "No such option '--on-calendar'", "--every or --at?"),
        (["stop", "-t", "5", "x"], "No such option '-t'", "did you mean --grace?"),
        (["stop", "--timeout", "5", "x"], "No such option '--timeout'", "did you mean --grace?"),
        (["set", "x", "--time", "1h"], "No such option '--time'", "fixed when a job is started"),
        (["wait", "--rm", "x"], "No such option '--rm'", "jobsup wait --help"),
    ],
)
def test_wrong_usage_is_refused_with_125_and_nothing_runs(
    arguments: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    core = FakeCore()
    assert invoke(arguments, core) == 125
    assert core.ran == []
    out, err = capsys.readouterr()
    first, *rest = err.splitlines()
    assert out == ""
    assert first.startswith(f"jobsup: {message}")
    assert [line[:6] for line in rest] == (["hint: "] if hint else [])
    assert (hint or "") in err


FLAGS = [
    "mem", "mem-high", "mem-low", "swap", "cpus", "cpu-weight", "cpuset", "pids", "io-max",
    "io-weight", "cgroup", "rw", "ro", "tmpfs", "root", "cwd", "net", "hostname", "user", "group",
    "groups", "cap", "env", "rlimit", "oom-score-adj", "time", "cpu-time", "grace", "output-max",
    "output-full",
]  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_refuses_an_empty_value_by_its_own_name(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", f"--{flag}", "", "true"], FakeCore()) == 125
    assert f"--{flag}" in capsys.readouterr().err


def test_an_error_of_the_host_is_shown_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    error = LimitNotEnforceable("memory.max", "no memory controller", hint="mount cgroup v2")
    assert invoke(["run", "true"], FakeCore(error=error)) == 125
    assert capsys.readouterr().err == (
        "jobsup: memory.max cannot be enforced: no memory controller\nhint: mount cgroup v2\n"
    )


def test_a_path_that_is_refused_names_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    error = PathRefused("rw", b"/x", "No such file or directory")
    assert invoke(["run", "--rw", "/x", "true"], FakeCore(error=error)) == 125
    assert capsys.readouterr().err == "jobsup: --rw: /x: No such file or directory\n"


def test_an_interrupt_before_the_job_is_no_traceback() -> None:
    assert invoke(["run", "true"], FakeCore(error=KeyboardInterrupt())) == 130


# ---- --verdict, --dry-run


def test_the_verdict_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "verdict.json"
    target.write_text("old")
    assert invoke(["run", "--verdict", str(target), "python3"], FakeCore(KILLED)) == 137
    assert json.loads(target.read_text())["cause"] == "memory"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_keeps_leading_where_it_led(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    invoke(["run", "--verdict", str(tmp_path / "link"), "true"], FakeCore())
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real").read_text())["status"] == 0


@pytest.mark.parametrize("path", ["no/such/dir/file", ".", "", "a\0b", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused_before_the_job_starts(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    core = FakeCore()
    assert invoke(["run", "--verdict", path, "true"], core) == 125
    assert core.ran == []
    assert capsys.readouterr().err.startswith("jobsup: --verdict: ")
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ["true"],  # by the host
    ["--mem", "1Q", "true"],
    ["--memm", "1G", "true"],
    [],
]


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_job_that_could_not_start_leaves_no_other_jobs_verdict(
    arguments: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "verdict.json"
    invoke(["run", "--verdict", str(target), "true"], FakeCore())
    assert target.exists()
    core = FakeCore(error=JobsupError("no"))
    assert invoke(["run", "--verdict", str(target), *arguments], core) == 125
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_command_line_that_is_refused_costs_no_file(arguments: list[str], tmp_path: Path) -> None:
    """`run --verdict make all`, where the file's name was forgotten."""
    target = tmp_path / "make"
    target.write_text("#!/bin/sh")
    core = FakeCore(error=JobsupError("no"))
    assert invoke(["run", "--verdict", str(target), *arguments], core) == 125
    assert target.read_text() == "#!/bin/sh"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_is_written_as_it_is() -> None:
    assert invoke(["run", "--verdict", "/dev/null", "true"], FakeCore()) == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_descriptor_of_the_caller_is_written_as_it_is(form: str) -> None:
    """What a shell makes of `--verdict >(wc -c)`."""
    read_end, write_end = os.pipe()
    assert invoke(["run", "--verdict", form.format(write_end), "true"], FakeCore()) == 0
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert json.loads(pipe.read())["status"] == 0


def test_a_file_behind_a_descriptor_is_written_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        log.write("before\n")
        log.flush()
        assert invoke(["run", "--verdict", f"/dev/fd/{log.fileno()}", "true"], FakeCore()) == 0
        before, verdict = (tmp_path / "log").read_text().splitlines()
    assert (before, json.loads(verdict)["status"]) == ("before", 0)


def test_a_descriptor_that_cannot_be_written_is_refused() -> None:
    core = FakeCore()
    with Path("/dev/null").open() as null:
        assert invoke(["run", "--verdict", f"/dev/fd/{null.fileno()}", "true"], core) == 125
    assert core.ran == []


@pytest.mark.parametrize(("code", "status"), [(0, 125), (3, 3)])
def test_a_verdict_that_cannot_be_written_is_told_in_a_sentence(
    code: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    core = FakeCore(ExitRecord(code << 8, EndedBy.NOTHING))
    assert invoke(["run", "--verdict", "/dev/full", "true"], core) == status
    told = "jobsup: --verdict: '/dev/full' could not be written: No space left on device\n"
    assert capsys.readouterr() == ("", told)


def test_a_dash_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["run", "--verdict", "-", "true"], FakeCore())
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["cause"]) == ("", "exited")


def test_the_flag_is_also_called_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["run", "--json", "-", "true"], FakeCore())
    assert json.loads(capsys.readouterr().err)["cause"] == "exited"


@pytest.mark.parametrize("flag", ["--json", "--verdict"])
def test_the_end_of_the_flags_is_no_file(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    core = FakeCore()
    assert invoke(["run", flag, "--", "true"], core) == 125
    assert capsys.readouterr().err.startswith("jobsup: --verdict: '--' is no file\nhint: ")
    assert (core.ran, list(tmp_path.iterdir())) == ([], [])


def test_a_dry_run_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    core = FakeCore()
    assert invoke(["run", "--dry-run", "--", os.fsdecode(b"\xff")], core) == 0
    assert core.ran == []
    assert capsys.readouterr().out == "set the host name\nexecute \\udcff\n"


# ---- doctor


FINDINGS = [
    Finding("kernel", True, "6.1"),
    Finding("memory controller", False, "absent", "boot with cgroup_enable=memory"),
    Finding("io.weight", None, "absent", "BFQ"),
]


def test_doctor_tells_what_is_missing_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor"], FakeCore(findings=FINDINGS)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "✓ kernel             6.1",
        "✗ memory controller  absent",
        "                     boot with cgroup_enable=memory",
        "! io.weight          absent",
        "                     BFQ",
        "Jobs cannot run here: 1 of 3 are missing (✗).",
    ]


def test_doctor_tells_a_remedy_once_for_several_in_a_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    twice = [Finding(name, None, "absent", "the same") for name in ("a", "b")]
    assert invoke(["doctor"], FakeCore(findings=[*twice, FINDINGS[2]])) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "! a          absent",
        "! b          absent",
        "the same",
        "! io.weight  absent",
        "BFQ",
        "Jobs can run here; what is marked ! is needed by some options only.",
    ]


def test_doctor_speaks_ascii_where_the_output_is_ascii(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert invoke(["doctor"], FakeCore(findings=FINDINGS)) == 1
    ascii_only.flush()
    told = ascii_only.buffer.getvalue().decode()
    assert [line[0] for line in told.splitlines() if line[0] != " "] == ["+", "x", "!", "J"]


def test_doctor_is_content_with_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--json"], FakeCore(findings=[FINDINGS[0], FINDINGS[2]])) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["findings"][1] == {
        "name": "io.weight", "ok": None, "found": "absent", "remedy": "BFQ"
    }  # fmt: skip


# ---- the standard streams


def child(program: str, redirections: str) -> subprocess.CompletedProcess[str]:
    """A Python program under a shell's redirections."""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "redirections", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"]
)
@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["run", "--mem", "1Q", "true"]])
def test_streams_that_are_closed_are_no_error(redirections: str, arguments: list[str]) -> None:
    program = f"""
import os, sys
sys.argv[1:] = {arguments!r}
from jobsup.cli import main
from jobsup.cli.core import Core
class Nothing(Core):
    def examine(self):
        assert os.open("/", os.O_RDONLY) > 2, "became a standard stream"
        return []
main.Core = Nothing
main.main()
"""
    ended = child(program, redirections)
    assert ended.returncode == (125 if arguments[0] == "run" else 0), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_stderr_that_nobody_reads_changes_no_status() -> None:
    program = "import sys; sys.argv[1:] = ['run']; from jobsup.cli.main import main; main()"
    assert child(program, "2>/dev/full").returncode == 125


def test_without_stdin_the_job_gets_none() -> None:
    for arguments, stdin in ((["-n"], False), (["--no-stdin"], False), ([], True)):
        core = FakeCore()
        assert invoke(["run", *arguments, "true"], core) == 0
        assert core.stdin is stdin


# ---- help, and what it costs


@pytest.mark.parametrize("command", [[], ["run"], ["doctor"]])
def test_help_has_a_short_flag_everywhere(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for flag in ("-h", "--help"):
        assert invoke([*command, flag], FakeCore()) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "-h, --help" in shown[0]


def test_help_lists_every_flag_under_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--help"], FakeCore()) == 0
    out = capsys.readouterr().out
    assert out.index("sudo jobsup run --mem 256M") < out.index("Resources:")
    for flag in FLAGS:
        assert f"--{flag} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_no_arguments_get_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([], FakeCore()) == 0
    assert "doctor" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from jobsup import __version__

    assert invoke(["--version"], FakeCore()) == 0
    assert capsys.readouterr().out == f"jobsup {__version__}\n"


# What a run must not pay for. Some of these cost more than all of the job.
HEAVY = {
    "aiohttp", "asyncio", "difflib", "email", "http", "json", "logging", "msgspec", "prctl",
    "pyroute2", "rich", "socketserver", "sqlite3", "ssl", "tempfile", "unittest", "xml",
}  # fmt: skip


@pytest.mark.parametrize("arguments", [["run", "--help"], ["run", "--mem", "256M", "--", "true"]])
def test_the_hot_path_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
from jobsup.cli.core import Core
from jobsup.cli.main import invoke
class Imports(Core):
    def run_foreground(self, spec, *, stdin):
        import jobsup.supervisor.foreground
        raise KeyboardInterrupt
invoke({arguments!r}, Imports())
print(*sys.modules, file=sys.stderr)
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ended.stderr.split()}
    assert "click" in loaded
    assert loaded & HEAVY == set()


# ---- install


class Installer(FakeCore):
    def install(self, *, start: bool) -> Sequence[str]:
        return ["done"]


def test_installing_what_others_cannot_execute_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "python"
    program.touch(mode=0o755)
    for directory in program.parents:
        if directory.is_relative_to(tmp_path.parents[1]):
            directory.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    for mode, told in ((0o755, False), (0o700, True)):
        home.chmod(mode)
        assert invoke(["install"], Installer()) == 0
        out, err = capsys.readouterr()
        assert out == "done\n"
        assert (f"jobsup: {home} is not open to others" in err) is told
    home.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(program)
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(link))
    invoke(["install"], Installer())
    assert f"jobsup: {program} is not open to others" in capsys.readouterr().err
