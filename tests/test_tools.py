"""What `./run` decides before a job runs: what is installed, and what the guest shares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import in_guest, locked

LOCK = """
[[package]]
name = "click"
version = "8.5.1"
groups = ["default"]
files = [{file = "a.whl", hash = "sha256:1"}, {file = "b.tar.gz", hash = "sha256:2"}]

[[package]]
name = "colorama"
version = "0.4.6"
groups = ["default", "test"]
marker = "sys_platform == 'win32'"
files = [{file = "c.whl", hash = "sha256:3"}]
"""


def test_requirements_carry_hashes_and_markers() -> None:
    assert list(locked.requirements(LOCK, {"default"})) == [
        "click==8.5.1 --hash=sha256:1 --hash=sha256:2",
        "colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:3",
    ]


def test_requirements_are_of_the_groups_asked_for() -> None:
    assert [line[:8] for line in locked.requirements(LOCK, {"test"})] == ["colorama"]


def test_the_lock_names_no_host() -> None:
    """An address in it would bind every clone to one registry."""
    assert "://" not in locked.LOCK.read_text()


@pytest.mark.parametrize(
    "line",
    [
        "run -- ls",
        "run ls",
        "run ls --help",
        "run ls --dry-run",
        "run grep --version",
        "run -q --mem 1M -- ls -h",
        "run --rw=a:/b ls",
        "run --hostname run ls -- x",
    ],
)
def test_a_job_goes_into_the_guest(line: str) -> None:
    assert in_guest.asked(line.split()) is not None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "run",
        "run -h",
        "run --mem 1M --help -- ls",
        "run --dry-run -- ls",
        "run --mem 5Q ls",
        "run --memm 5M ls",
        "run --mem 1M",
        "--version",
        "--help run ls",
        "doctor",
        "start -- run",
    ],
)
def test_what_is_no_job_or_refused_stays_on_the_host(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_guest.asked(line.split()) is None
    assert capsys.readouterr() == ("", "")


def shared(line: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """What the guest shares for these words; the repository is always among it."""
    monkeypatch.chdir(cwd)
    job = in_guest.asked(["run", *line.split(), "true"])
    assert job is not None
    words = in_guest.shares(job, cwd)
    pairs = set(zip(words[::2], words[1::2], strict=True))
    assert ("--ro", str(in_guest.REPO)) in pairs or cwd == in_guest.REPO
    return pairs - {("--ro", str(in_guest.REPO))}


def test_the_guest_shares_what_options_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "data", "out", "lib", "a:b"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "file").touch()
    line = rf"--rw ../data:/srv --verdict={tmp_path}/out/v.json --ro ../lib/file --ro ../a\:b"
    assert shared(line, tmp_path / "work", monkeypatch) == {
        ("--rw", f"{tmp_path}/work"),
        ("--rw", f"{tmp_path}/data"),
        ("--rw", f"{tmp_path}/out"),
        ("--ro", f"{tmp_path}/lib"),
        ("--ro", f"{tmp_path}/a:b"),
    }


def test_what_the_command_names_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    job = in_guest.asked(["run", "ls", "--rw", f"{tmp_path}/data"])
    assert job is not None
    assert f"{tmp_path}/data" not in in_guest.shares(job, tmp_path / "work")


@pytest.mark.parametrize(
    "line",
    ["--rw /", "--ro /proc/1", "--verdict /dev/null", "--verdict /dev/fd/1", "--verdict -"],
)
def test_what_is_the_guests_own_is_never_shared(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared(line, Path("/"), monkeypatch) == set()


def test_what_is_not_there_shares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"--rw {tmp_path}/no/such"
    assert shared(line, in_guest.REPO, monkeypatch) == {("--rw", str(in_guest.REPO))}


@pytest.mark.parametrize("words", ["ls -l", "-- ls -l", "-q ls --", "-q -- ls --verdict x"])
def test_another_file_takes_the_verdict(words: str) -> None:
    args = ["run", "--verdict", "/dev/fd/9", *words.split()]
    job = in_guest.asked(args)
    assert job is not None
    assert in_guest.asked(in_guest.with_verdict(args, job, Path("/v"))) == job._replace(
        verdict="/v"
    )


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("serve", True),
        ("serve --state /s", True),
        ("serve --help", False),
        ("ls", False),
        ("", False),
    ],
)
def test_a_daemon_is_refused_where_nobody_could_reach_it(line: str, refused: bool) -> None:
    assert in_guest.refuses_daemon(line.split()) is refused
    assert refused or in_guest.asked(line.split()) is None


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("start -- true", True),
        ("ls", True),
        ("start --help", False),
        ("start --memm 1M true", False),
        ("start true --socket /s", True),
        ("ls --socket /s", False),
        ("ping --socket=/s", False),
        ("run true", False),
        ("doctor", False),
        ("", False),
    ],
)
def test_what_asks_a_daemon_is_told_where_one_can_be(
    line: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBSUP_SOCKET", raising=False)
    monkeypatch.setattr(in_guest, "SOCKET", str(tmp_path / "socket"))
    assert in_guest.lacks_daemon(line.split()) is lacks
    (tmp_path / "socket").touch()
    assert not in_guest.lacks_daemon(line.split())


@pytest.mark.parametrize("command", sorted(in_guest.ASKING))
def test_each_of_them_can_be_told_a_socket(command: str) -> None:
    line = {"ls": "", "prune": "", "events": "", "control": "", "ping": ""}.get(command, "a")
    given = in_guest.parsed([command, "--socket", "/s", *line.split()])
    assert given is not None
    assert given["socket"] == "/s"


def on_this_host(*words: str, **variables: str) -> tuple[int, str, str]:
    """What a host says that cannot run jobs because of "no v2"."""
    command = [sys.executable, "-I", "-B", in_guest.__file__, "no v2", *words]
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_who_asks_for_a_daemon_is_led_into_the_guest() -> None:
    if Path("/run/jobsup/jobsup.sock").exists():
        pytest.skip("this host has a daemon")
    status, out, err = on_this_host("start", "true")
    assert (status, out) == (125, "")
    first, hint = err.splitlines()
    assert first == "jobsup: there is no daemon, and none can run on this host: no v2"
    assert hint.startswith("hint: in the guest it can, as: sudo ")


def test_doctor_says_that_jobs_run_all_the_same() -> None:
    told = "jobsup: ./run runs jobs in the bundled guest kernel"
    assert on_this_host("doctor")[2].startswith(told)
    assert told not in on_this_host("doctor", "--help")[2]


def test_the_guest_has_half_of_a_usual_hosts_memory() -> None:
    memory = int(in_guest.memory().removesuffix("M")) << 20
    assert in_guest.LEAST_MEMORY <= memory <= in_guest.MOST_MEMORY
