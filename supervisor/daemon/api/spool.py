"""What a job wrote, as its init keeps it: one file a stream, and an index of what came when.

    stdout, stderr   the bytes, from the first; a job with merged streams has no stderr
    output.index     one Entry a burst of bytes, in the order in which they came

Everything here blocks and looks at files alone. The init appends bytes first and tells the index
later, at most a millisecond or so: whoever wants one stream looks at its file, whoever wants both
in order at the index. An init that was killed may leave bytes that no entry tells of; they come
last. A torn last entry is none.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from ...protocol import STREAMS

ENTRY = struct.Struct("=2I2Q")  # struct index_entry of isolation/native/abi.h
INDEX = "output.index"
_BLOCK = 64 << 10
_ENTRIES = _BLOCK // ENTRY.size
_UNTOLD = 1 << 30  # an entry's length has 32 bits


class Entry(NamedTuple):
    """`length` bytes of a stream, from `offset` in its file."""

    stream: int
    length: int
    offset: int
    realtime_ns: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Spool:
    """The open files of one attempt. Closed by whoever opened it.

    Raises:
        FileNotFoundError: there is no output there (yet).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[int, int] = {}
        self._index = -1
        try:
            self._index = os.open(directory / INDEX, os.O_RDONLY | os.O_CLOEXEC)
            for name, stream in STREAMS.items():
                self._open(name, stream)
        except BaseException:
            self.close()
            raise

    def _open(self, name: str, stream: int) -> None:
        try:
            self._files[stream] = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if name == "stdout":
                raise

    def close(self) -> None:
        """Close the files; once more is no harm."""
        files, self._files = self._files, {}
        index, self._index = self._index, -1
        for descriptor in (*files.values(), index):
            if descriptor >= 0:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def descriptor(self, stream: int) -> int:
        """The file of a stream that has bytes."""
        return self._files[stream]

    def size(self, stream: int) -> int:
        """Bytes of a stream so far."""
        descriptor = self._files.get(stream)
        return 0 if descriptor is None else os.fstat(descriptor).st_size

    def read(self, entry: Entry) -> bytes:
        """The bytes that it tells of.

        Raises:
            EOFError: the file does not have them any more.
        """
        data = os.pread(self._files[entry.stream], entry.length, entry.offset)
        if len(data) != entry.length:
            raise EOFError(f"the output ends at {entry.offset + len(data)}")
        return data

    # ---- the index

    def count(self) -> int:
        """How many whole entries the index has."""
        return os.fstat(self._index).st_size // ENTRY.size

    def entries(self, first: int, most: int = _ENTRIES) -> list[Entry]:
        """Entries from number `first` on, as many as there are. After a power loss the index may
        tell of bytes that a file does not have: an entry is as long as what is there of it."""
        raw = os.pread(self._index, most * ENTRY.size, first * ENTRY.size)
        found = map(Entry._make, ENTRY.iter_unpack(raw[: len(raw) // ENTRY.size * ENTRY.size]))
        sizes = {stream: self.size(stream) for stream in self._files}
        return [
            entry
            if entry.offset + entry.length <= (size := sizes.get(entry.stream, 0))
            else entry._replace(length=max(0, size - entry.offset))
            for entry in found
        ]

    def backwards(self, end: int) -> Iterator[Entry]:
        """The entries before number `end`, the last one first."""
        while end > 0:
            first = max(0, end - _ENTRIES)
            yield from reversed(self.entries(first, end - first))
            end = first

    def indexed(self, stream: int, before: int | None = None) -> int:
        """How many bytes of a stream the index tells of, in all or before entry number `before`."""
        if self.size(stream) == 0:
            return 0
        entries = self.backwards(self.count() if before is None else before)
        return next((entry.end for entry in entries if entry.stream == stream), 0)

    def untold(self, before: int | None = None) -> list[Entry]:
        """What no entry (before number `before`) tells of, as entries: what an init that was
        killed had still to say."""
        found = []
        for stream, descriptor in self._files.items():
            status = os.fstat(descriptor)
            for offset in range(self.indexed(stream, before), status.st_size, _UNTOLD):
                length = min(_UNTOLD, status.st_size - offset)
                found.append(Entry(stream, length, offset, status.st_mtime_ns))
        return found

    def since(self, realtime_ns: int) -> int:
        """The number of the first entry that came at this time or later. Times are taken to rise,
        as they do unless the host's clock was set back while the job ran."""
        return bisect_left(_Times(self), realtime_ns)


class _Times:
    """The times of a spool's entries, for bisect."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._count = spool.count()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> int:
        return self._spool.entries(number, 1)[0].realtime_ns


def length_of_last_lines(blocks: Iterator[bytes], lines: int) -> int:
    """How many bytes the last `lines` lines have, of bytes that come in blocks from the end. What
    follows the last newline is a line."""
    length, first = 0, True
    for block in blocks:
        if first and block:
            lines, first = lines + block.endswith(b"\n"), False
        at = len(block)
        while lines > 0 and (at := block.rfind(b"\n", 0, at)) >= 0:
            lines -= 1
            if lines == 0:
                return length + len(block) - at - 1
        if lines <= 0:
            return length
        length += len(block)
    return length


def blocks_backwards(spool: Spool, entries: Iterator[Entry]) -> Iterator[bytes]:
    """The bytes of entries that come last one first, in blocks, the last one first."""
    for entry in entries:
        end = entry.end
        while end > entry.offset:
            first = max(entry.offset, end - _BLOCK)
            yield spool.read(entry._replace(offset=first, length=end - first))
            end = first
