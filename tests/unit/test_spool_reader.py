"""Reading one attempt's output by offset, lines and time, against a plain model of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.daemon.api.reading import Asked, Reader, begin
from jobsup.supervisor.daemon.api.spool import ENTRY, Entry, Spool

OUT, ERR = 1, 2
NAMES = {OUT: "stdout", ERR: "stderr"}


class Writer:
    """Writes a spool as an init does: bytes, then an entry that tells of them."""

    def __init__(self, directory: Path, *, merged: bool = False) -> None:
        self.directory = directory
        self.sizes = {OUT: 0, ERR: 0}
        self.clock = 1000
        for name in ("output.index", "stdout", *([] if merged else ["stderr"])):
            (directory / name).touch()

    def append(self, name: str, data: bytes) -> None:
        with (self.directory / name).open("ab") as file:
            file.write(data)

    def untold(self, stream: int, data: bytes) -> None:
        self.append(NAMES[stream], data)

    def write(self, stream: int, data: bytes) -> None:
        self.untold(stream, data)
        self.clock += 10
        entry = ENTRY.pack(stream, len(data), self.sizes[stream], self.clock)
        self.append("output.index", entry)
        self.sizes[stream] += len(data)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def pieces(spool: Spool, reader: Reader, most: int = 1 << 20) -> Iterator[tuple[Entry, bytes]]:
    while (entries := reader.take(most)) or not reader.dry:
        assert sum(entry.length for entry in entries) <= most
        for entry in entries:
            yield entry, spool.read(entry)


def read(directory: Path, asked: Asked, *, complete: bool = True, most: int = 1 << 20) -> bytes:
    with Spool(directory) as spool:
        reader, _ = begin(spool, asked, complete=complete)
        if complete:
            reader.finish()
        return b"".join(data for _, data in pieces(spool, reader, most))


def test_a_stream_is_its_file(writer: Writer, tmp_path: Path) -> None:
    for stream, data in ((OUT, b"one\n"), (ERR, b"oops\n"), (OUT, b"two\n")):
        writer.write(stream, data)
    assert read(tmp_path, Asked("stdout")) == b"one\ntwo\n"
    assert read(tmp_path, Asked("stderr")) == b"oops\n"
    assert read(tmp_path, Asked()) == b"one\noops\ntwo\n"


def test_a_stream_does_not_wait_for_the_index(writer: Writer, tmp_path: Path) -> None:
    writer.write(OUT, b"told")
    writer.untold(OUT, b" and not yet")
    assert read(tmp_path, Asked("stdout"), complete=False) == b"told and not yet"
    assert read(tmp_path, Asked(), complete=False) == b"told"


def test_what_a_killed_init_did_not_tell_of_comes_last(writer: Writer, tmp_path: Path) -> None:
    writer.write(OUT, b"a")
    writer.untold(OUT, b"b")
    writer.untold(ERR, b"c")
    assert read(tmp_path, Asked()) == b"abc"
    assert read(tmp_path, Asked(offset=2)) == b"c"


def test_a_torn_last_entry_is_none(writer: Writer, tmp_path: Path) -> None:
    writer.write(OUT, b"whole")
    writer.append("output.index", b"\x01\x00\x00")
    assert read(tmp_path, Asked(), complete=False) == b"whole"


def test_an_entry_without_its_bytes_is_shorter(writer: Writer, tmp_path: Path) -> None:
    """As after a power loss, which may keep the index and lose the bytes."""
    writer.write(OUT, b"kept, lost")
    writer.write(ERR, b"!")
    os.truncate(tmp_path / "stdout", 4)
    assert read(tmp_path, Asked()) == b"kept!"
    assert read(tmp_path, Asked("stdout")) == b"kept"


def test_merged_streams_have_one_file(tmp_path: Path) -> None:
    Writer(tmp_path, merged=True).write(OUT, b"both\n")
    assert read(tmp_path, Asked()) == b"both\n"
    assert read(tmp_path, Asked("stderr")) == b""


def test_no_output_yet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path)
    open_before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "output.index").touch()
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("stream", [None, "stdout"])
def test_a_reader_follows_what_is_added(writer: Writer, tmp_path: Path, stream: str | None) -> None:
    with Spool(tmp_path) as spool:
        reader, position = begin(spool, Asked(stream), complete=False)
        assert position == 0
        for data in (b"first", b"second"):
            assert reader.take(100) == []
            assert reader.dry
            writer.write(OUT, data)
            assert b"".join(piece for _, piece in pieces(spool, reader)) == data


def test_the_index_is_read_once(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pieces are that a client takes."""
    for number in range(5000):
        writer.write(OUT if number % 2 else ERR, b"x")
    reads = []
    original = Spool.entries

    def counted(spool: Spool, first: int, *most: int) -> list[Entry]:
        reads.append(first)
        return original(spool, first, *most)

    monkeypatch.setattr(Spool, "entries", counted)
    assert len(read(tmp_path, Asked(), complete=False, most=10)) == 5000
    assert len(reads) <= 6


def test_an_offset_ahead_waits_until_the_output_is_there(writer: Writer, tmp_path: Path) -> None:
    writer.write(OUT, b"12")
    with Spool(tmp_path) as spool:
        for asked in (Asked(offset=4), Asked("stdout", offset=4)):
            reader, position = begin(spool, asked, complete=False)
            assert position == 4
            assert reader.take(100) == []
        writer.write(OUT, b"34")
        writer.write(OUT, b"56")
        for asked in (Asked(offset=4), Asked("stdout", offset=4)):
            reader, _ = begin(spool, asked, complete=False)
            assert b"".join(piece for _, piece in pieces(spool, reader)) == b"56"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b""), (1, b"e3\n"), (2, b"o2\ne3\n"), (3, b"e1\no2\ne3\n"), (99, b"o1\ne1\no2\ne3\n")],
)
def test_the_last_lines_of_both(
    writer: Writer, tmp_path: Path, lines: int, expected: bytes
) -> None:
    for stream, data in ((OUT, b"o1\n"), (ERR, b"e1\n"), (OUT, b"o2\n"), (ERR, b"e3\n")):
        writer.write(stream, data)
    assert read(tmp_path, Asked(tail=lines)) == expected


def test_the_last_lines_of_a_long_stream(writer: Writer, tmp_path: Path) -> None:
    lines = [b"%d\n" % number for number in range(50_000)]
    writer.write(OUT, b"".join(lines))
    writer.untold(OUT, b"half a line")
    assert read(tmp_path, Asked("stdout", tail=1)) == b"half a line"
    assert (
        read(tmp_path, Asked("stdout", tail=30_001)) == b"".join(lines[-30_000:]) + b"half a line"
    )


def test_since_a_time(writer: Writer, tmp_path: Path) -> None:
    for data in (b"1", b"2", b"3"):
        writer.write(OUT, data)
        writer.write(ERR, b"e" + data)
    with Spool(tmp_path) as spool:
        times = [entry.realtime_ns for entry in spool.entries(0)]
    assert read(tmp_path, Asked("stdout", since_ns=times[2])) == b"23"
    assert read(tmp_path, Asked("stdout", since_ns=times[2] + 1)) == b"3"
    assert read(tmp_path, Asked(since_ns=times[-1])) == b"e3"
    assert read(tmp_path, Asked(since_ns=times[-1] + 1)) == b""
    assert read(tmp_path, Asked(since_ns=0)) == read(tmp_path, Asked())


bursts = st.lists(
    st.tuples(
        st.sampled_from((OUT, ERR)), st.binary(min_size=1, max_size=9) | st.just(b"x\ny\n" * 7)
    ),
    max_size=30,
)


@given(
    bursts=bursts,
    told=st.integers(0, 30),
    stream=st.sampled_from((None, "stdout", "stderr")),
    framed=st.booleans(),
    offset=st.integers(0, 300),
    tail=st.none() | st.integers(0, 20),
    most=st.integers(1, 50),
)
def test_any_part_is_that_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    bursts: list[tuple[int, bytes]],
    told: int,
    stream: str | None,
    framed: bool,
    offset: int,
    tail: int | None,
    most: int,
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    writer = Writer(directory)
    for number, (which, data) in enumerate(bursts):
        (writer.write if number < told else writer.untold)(which, data)
    wanted = [(w, data) for w, data in bursts if stream in (None, NAMES[w])]
    untold = [(w, data) for w, data in bursts[told:] if stream in (None, NAMES[w])]
    in_order = wanted[: len(wanted) - len(untold)] + sorted(untold, key=lambda burst: burst[0])
    whole = b"".join(data for _, data in in_order)
    last = whole[len(whole) - _length_of_tail(whole, tail) :] if tail is not None else whole
    expected = min(last, whole[offset:], key=len)
    assert read(directory, Asked(stream, framed, offset, tail), most=most) == expected


def _length_of_tail(whole: bytes, lines: int) -> int:
    parts = whole.split(b"\n")
    kept = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    return sum(map(len, kept[len(kept) - min(lines, len(kept)) :]))
