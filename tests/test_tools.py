"""What `./run` decides before a job runs: what is installed, and what the guest shares."""

from __future__ import annotations

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


def test_the_guest_has_half_of_a_usual_hosts_memory() -> None:
    memory = int(in_guest.memory().removesuffix("M")) << 20
    assert in_guest.LEAST_MEMORY <= memory <= in_guest.MOST_MEMORY
