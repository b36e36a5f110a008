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
    ("line", "guest"),
    [
        ("run -- ls", True),
        ("run --mem 1M -- ls --help", True),
        ("run --dry-run -- ls", False),
        ("run --help", False),
        ("--version", False),
        ("doctor", False),
        ("start -- run", False),
    ],
)
def test_only_a_job_goes_into_the_guest(line: str, guest: bool) -> None:
    assert in_guest.runs_a_job(in_guest.own_words(line.split())) is guest


def test_the_guest_shares_what_options_name(tmp_path: Path) -> None:
    for name in ("work", "data", "out", "lib"):
        (tmp_path / name).mkdir()
    words = ["run", "--rw", "../data:/srv", f"--json={tmp_path}/out/v.json", "--ro", "../lib"]
    shared = in_guest.shares(words, tmp_path / "work")
    pairs = set(zip(shared[::2], shared[1::2], strict=True))
    assert pairs == {
        ("--ro", str(in_guest.REPO)),
        ("--rw", f"{tmp_path}/work"),
        ("--rw", f"{tmp_path}/data"),
        ("--rw", f"{tmp_path}/out"),
        ("--ro", f"{tmp_path}/lib"),
    }


def test_the_whole_host_is_never_shared() -> None:
    assert in_guest.shares(["run", "--rw", "/"], Path("/")) == ["--ro", str(in_guest.REPO)]


def test_what_is_not_there_shares_nothing(tmp_path: Path) -> None:
    shared = in_guest.shares(["run", "--rw", f"{tmp_path}/no/such"], in_guest.REPO)
    assert shared == ["--rw", str(in_guest.REPO)]
