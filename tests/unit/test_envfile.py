"""--env-file: what a line means, and that a bad one is told with its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsup.supervisor.envfile import read, with_files
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec


def variables(tmp_path: Path, content: bytes) -> list[tuple[bytes, bytes | None]]:
    file = tmp_path / "vars.env"
    file.write_bytes(content)
    return read(file)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"A=1", (b"A", b"1")),
        (b"A=", (b"A", b"")),
        (b"A", (b"A", None)),
        (b"A=b=c", (b"A", b"b=c")),
        (b"  \tA=1", (b"A", b"1")),
        (b"A= two words  ", (b"A", b" two words  ")),
        (b"A='quoted'", (b"A", b"'quoted'")),
        (b"A=1 # no comment", (b"A", b"1 # no comment")),
        (b"A=\\n$HOME", (b"A", b"\\n$HOME")),
        (b"A=1\r", (b"A", b"1")),
        (b"A=\xff", (b"A", b"\xff")),
        (b"\xef\xbb\xbfA=1", (b"A", b"1")),
        (b"a.b-c=1", (b"a.b-c", b"1")),
    ],
)
def test_a_line_is_a_variable(tmp_path: Path, line: bytes, found: tuple[bytes, bytes]) -> None:
    assert variables(tmp_path, line) == [found]
    assert variables(tmp_path, line + b"\n") == [found]


def test_comments_and_blank_lines_are_none(tmp_path: Path) -> None:
    assert variables(tmp_path, b"# one\n\n  \n\t# two\n#A=1\nA=1\n\r\n") == [(b"A", b"1")]
    assert variables(tmp_path, b"") == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"=1", "is not a variable's name"),
        (b"export A=1", "blank"),
        (b"A =1", "blank"),
        (b"A B", "blank"),
        (b"A=\0", "NUL"),
        (b"A=" + b"x" * 131072, "131071"),
    ],
)
def test_a_bad_line_is_told_with_its_file_and_number(tmp_path: Path, line: bytes, why: str) -> None:
    with pytest.raises(BadValue) as caught:
        variables(tmp_path, b"# first\nB=1\n" + line + b"\nC=1\n")
    assert caught.value.field == "env_file"
    assert caught.value.value == f"{tmp_path}/vars.env:3"
    assert why in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("path", ["/no/such/file", "/", "/a\0b", "", 5, None, True, ["/etc"]])
def test_a_file_that_cannot_be_read_is_told(path: object) -> None:
    with pytest.raises(BadValue) as caught:
        read(path)
    assert caught.value.field == "env_file"


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(BadValue, match="too long"):
        read("/dev/zero")


def test_later_files_win_and_env_before_all(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("A=1\nB=1\nC=1\n")
    two.write_text("B=2\nC=2\n")
    options = {"env_file": [one, str(two)], "env": {"C": "3"}, "mem": "1M"}
    made = with_files(options)
    assert made["mem"] == "1M"
    assert "env_file" not in made
    assert dict(Spec.make(["x"], **made).env) == {b"A": b"1", b"B": b"2", b"C": b"3"}
    assert "env_file" in options  # which was the caller's


def test_without_files_nothing_changes() -> None:
    assert with_files({"env": ["A"]}) == {"env": ["A"]}
    assert with_files({"env_file": None}) == {}
