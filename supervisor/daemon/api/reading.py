"""Where in a job's output a reader is, and what comes next for it.

There are two kinds. Plain follows one stream's file. Indexed follows the index, for both streams in
the order in which they came, or for the time of each burst. The position of either is a number of
bytes of what it reads (of one stream, or of both together), never of what is put around them, so
that a client who counts what it got can go on from there.

Everything here blocks; what may take long (`begin`, `finish`) is for a thread.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple, Protocol

from ...protocol import STREAMS
from .spool import (
    INDEX,
    Entry,
    Spool,
    blocks_backwards,
    length_of_last_lines,
)

_BOTH = frozenset(STREAMS.values())


class Asked(NamedTuple):
    """What a client wants to read. Of several beginnings the last one in the output holds."""

    stream: str | None = None  # "stdout", "stderr"; None: both
    framed: bool = False
    offset: int = 0
    tail: int | None = None  # lines
    since_ns: int | None = None

    @property
    def streams(self) -> frozenset[int]:
        return _BOTH if self.stream is None else frozenset({STREAMS[self.stream]})


class Reader(Protocol):
    """Gives what there is, piece by piece."""

    @property
    def watched(self) -> str:
        """The file that grows when there is more."""

    @property
    def dry(self) -> bool:
        """The last `take` has seen the end of what is there."""

    def take(self, most: int) -> list[Entry]:
        """What comes next, at most so many bytes of it."""

    def finish(self) -> None:
        """No more will be written: from now on `take` also gives what no entry tells of."""


class Plain:
    """One stream's bytes as its file has them."""

    def __init__(self, spool: Spool, stream: str, position: int) -> None:
        self.watched = stream
        self.dry = False
        self._spool = spool
        self._stream = STREAMS[stream]
        self._position = position

    def take(self, most: int) -> list[Entry]:
        there = self._spool.size(self._stream) - self._position
        self.dry = there <= most
        if there <= 0:
            return []
        entry = Entry(self._stream, min(there, most), self._position, 0)
        self._position = entry.end
        return [entry]

    def finish(self) -> None:
        """Its file tells all."""


class Indexed:
    """The bytes of one or both streams as the index tells of them. Unless framed, bursts that
    follow each other in one file are given as one."""

    def __init__(self, spool: Spool, streams: frozenset[int], *, framed: bool) -> None:
        self.watched = INDEX
        self.dry = False
        self._spool = spool
        self._streams = streams
        self._framed = framed
        self._number = 0  # of the entry that is read next
        self._ahead: list[Entry] = []  # what was read, and is not given yet
        self._skip = 0  # bytes from there on that are not wanted
        self._untold: list[Entry] = []

    def seek(self, position: int) -> None:
        """Go to a position, from the nearer end of the index."""
        total = sum(self._spool.indexed(stream) for stream in self._streams)
        if position > total // 2:
            self._seek_back(position, total)
        else:
            self._number, self._skip = 0, position
            while self._skip and self._pass(self._spool.entries(self._number)):
                pass

    def _seek_back(self, position: int, at: int) -> None:
        self._number = self._spool.count()
        for entry in self._spool.backwards(self._number):
            if at <= position:
                break
            self._number -= 1
            at -= self._wanted(entry)
        self._skip = position - at

    def _pass(self, entries: list[Entry]) -> bool:
        """Leave out whole entries that are to be skipped; whether all of these were."""
        for entry in entries:
            if self._wanted(entry) > self._skip:
                return False
            self._skip -= self._wanted(entry)
            self._number += 1
        return bool(entries)

    def _wanted(self, entry: Entry) -> int:
        return entry.length if entry.stream in self._streams else 0

    def take(self, most: int) -> list[Entry]:
        if not self._ahead:
            self._ahead = self._spool.entries(self._number)
            self._number += len(self._ahead)
        if not self._ahead:
            # All that the index tells of is done; after `finish` there may be more.
            self._ahead, self._untold = self._untold, []
        self.dry = not self._ahead
        found, passed = self._cut(self._ahead, most)
        self._ahead = self._ahead[passed:]
        return found

    def _cut(self, entries: list[Entry], most: int) -> tuple[list[Entry], int]:
        """What is wanted of these entries, and how many of them are done with."""
        found: list[Entry] = []
        for done, entry in enumerate(entries):
            wanted = self._wanted(entry)
            if wanted <= self._skip:
                self._skip -= wanted
                continue
            piece = _part(entry, self._skip, most)
            self._add(found, piece)
            most -= piece.length
            if piece.end < entry.end:
                self._skip += piece.length
                return found, done
            self._skip = 0
            if most == 0:
                return found, done + 1
        return found, len(entries)

    def _add(self, found: list[Entry], piece: Entry) -> None:
        last = found[-1] if found and not self._framed else None
        if last is not None and last.stream == piece.stream and last.end == piece.offset:
            found[-1] = last._replace(length=last.length + piece.length)
        else:
            found.append(piece)

    def finish(self) -> None:
        self._untold = [entry for entry in self._spool.untold() if entry.stream in self._streams]


def _part(entry: Entry, skip: int, most: int) -> Entry:
    length = min(entry.length - skip, most)
    return Entry(entry.stream, length, entry.offset + skip, entry.realtime_ns)


def begin(spool: Spool, asked: Asked, *, complete: bool) -> tuple[Reader, int]:
    """A reader where the client wants to begin, and that position. `complete`: no more will be
    written."""
    position = max(asked.offset, _since(spool, asked), _tail(spool, asked, complete=complete))
    if asked.stream is not None and not asked.framed:
        return Plain(spool, asked.stream, position), position
    reader = Indexed(spool, asked.streams, framed=asked.framed)
    reader.seek(position)
    return reader, position


def _since(spool: Spool, asked: Asked) -> int:
    if asked.since_ns is None:
        return 0
    number = spool.since(asked.since_ns)
    return sum(spool.indexed(stream, number) for stream in asked.streams)


def _tail(spool: Spool, asked: Asked, *, complete: bool) -> int:
    if asked.tail is None:
        return 0
    # Of one moment: what comes while this looks is after it.
    count = spool.count()
    plain = asked.stream is not None and not asked.framed
    untold = spool.untold(count) if complete or plain else []
    entries = chain(reversed(untold), spool.backwards(count))
    wanted = (entry for entry in entries if entry.stream in asked.streams)
    size = sum(spool.indexed(stream, count) for stream in asked.streams)
    size += sum(entry.length for entry in untold if entry.stream in asked.streams)
    return size - length_of_last_lines(blocks_backwards(spool, wanted), asked.tail)
