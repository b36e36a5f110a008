"""The records, kept in SQLite by one thread; what is awaited here is durable.

Theory of operation. Every call puts one piece of work into a queue and returns a future. The thread
takes all that is waiting, does it in one transaction, commits (one fsync of the log for all of
them), and resolves the futures on the loop: under load, many saves share one commit. What nobody
was promised (`soon`) waits for the next piece, or a moment, and shares its commit. Work is done in
the order of the calls, so a read sees what was saved before it.

When one piece fails, the transaction is undone and each piece is tried again in a transaction of
its own, so that only those fail that cannot be done. What is saved is copied at the call: the
caller may go on changing the record at once.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jobsup.isolation import reached

from ..errors import StorageFull, StoreCorrupt
from .kept import Kept
from .records import AttemptRow, Record, Transition
from .rows import SELECT, TRANSITION, UPSERT, as_json, from_json, record_of, row_of, transition_of
from .schema import open_database
from .state import ENDED, State

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

# So that nobody waits long for others' work: a transaction of this many takes some milliseconds.
_BATCH = 500
_MOMENT = 0.05  # seconds

_ENDED = ", ".join(f"'{state.value}'" for state in State if state in ENDED)
_UNFINISHED = ", ".join(f"'{state.value}'" for state in State if state not in ENDED)


class _Piece(NamedTuple):
    work: Work
    future: asyncio.Future[Any]


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    result: object
    error: Exception | None


class Store:
    """The records of all jobs. Made by `open`; every method is called on the loop's thread.

    Raises, from whatever is awaited: StorageFull (nothing of it was kept), StoreCorrupt.

    Attributes:
        commits: how many transactions were made durable, each with one fsync.
        quarantined: where a damaged file was moved to when the store was opened, or None.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, aside: Path | None) -> None:
        self.commits = 0
        self.quarantined = aside
        self._connection = connection
        self._path = path
        self._seq = _last_seq(connection)
        self._kept = Kept(connection)
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Piece] | None] = queue.SimpleQueue()
        self._held: list[_Piece] = []
        self._flush: asyncio.TimerHandle | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path) -> Store:
        """The records at `path`; made where there are none, moved aside where they are damaged.

        Raises:
            SchemaTooNew: they are of a later version, and left as they are.
            StorageFull: they cannot be written.
        """
        try:
            connection, aside = await asyncio.to_thread(open_database, path)
        except (sqlite3.Error, OSError) as error:
            told = _told(error, path)
            raise told from (None if told is error else error)
        return cls(connection, path, aside)

    async def close(self) -> None:
        """Wait for all that was asked for, and close the file."""
        if not self._closed:
            self._hand_over()
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # ---- writing: what is returned may be awaited, or waited for together with others

    def save(
        self, record: Record, *, event: bool = True, soon: bool = False
    ) -> asyncio.Future[None]:
        """Keep the record as it is now; with `event`, also that it came to be so just now. `soon`
        for what nobody waits for: it becomes durable with the next piece, or a moment later."""
        if record.seq == 0:
            self._seq += 1
            record.seq = self._seq
        row = row_of(record)
        moved = transition_of(record) if event else None
        job, owner = record.id, record.uid
        kept = record.output_bytes if record.state in ENDED else 0

        def work(connection: sqlite3.Connection) -> None:
            if kept:
                self._kept.change(connection, job, owner, kept)
            connection.execute(UPSERT, row)
            if moved is not None:
                connection.execute(TRANSITION, moved)

        return self._submit(work, soon=soon)

    def save_attempt(
        self,
        job: str,
        attempt: int,
        started_ns: int | None,
        ended_ns: int | None,
        verdict: dict[str, Any] | None,
        limits: dict[str, str],
    ) -> asyncio.Future[None]:
        """Keep what became of one run of a job that is run again: of its last run, the job's own
        record tells. It becomes durable together with the next piece, or a moment later."""
        row = (job, attempt, started_ns, ended_ns, as_json(verdict), as_json(limits))
        statement = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)"
        return self._submit(lambda connection: _run(connection, statement, row), soon=True)

    def delete(self, jobs: Iterable[str]) -> asyncio.Future[None]:
        """Forget these jobs, with all that was kept of them."""
        rows = [(job,) for job in jobs]

        def work(connection: sqlite3.Connection) -> None:
            for (job,) in rows:
                self._kept.change(connection, job)
            connection.executemany("DELETE FROM jobs WHERE id = ?", rows)
            connection.executemany("DELETE FROM attempts WHERE job = ?", rows)
            connection.executemany("DELETE FROM transitions WHERE job = ?", rows)

        return self._submit(work)

    def delete_attempts(self, job: str, below: int) -> asyncio.Future[None]:
        """Forget a job's runs before the one of this number, and their transitions."""

        def work(connection: sqlite3.Connection) -> None:
            for table in ("attempts", "transitions"):
                statement = f"DELETE FROM {table} WHERE job = ? AND attempt < ?"  # noqa: S608
                connection.execute(statement, (job, below))

        return self._submit(work)

    def set_setting(self, key: str, value: str) -> asyncio.Future[None]:
        """Keep one text under a name of ours."""
        statement = "INSERT OR REPLACE INTO settings VALUES (?, ?)"
        return self._submit(lambda connection: _run(connection, statement, (key, value)))

    # ---- reading

    def kept_bytes(self, uid: int) -> int:
        """The output that is kept of this owner's jobs that have ended."""
        return self._kept.totals[uid]

    async def unfinished(self) -> list[Record]:
        """All jobs that have not ended, in the order of their submission."""
        return await self._select(f"WHERE state IN ({_UNFINISHED}) ORDER BY seq")

    async def get(self, job: str) -> Record | None:
        """The job of exactly this id."""
        found = await self._select("WHERE id = :id", {"id": job})
        return found[0] if found else None

    async def ids(self) -> set[str]:
        """Those of all jobs."""
        return {row[0] for row in await self._query("SELECT id FROM jobs", {})}

    async def matching(self, ref: str, uid: int | None = None) -> list[Record]:
        """The jobs that `ref` may mean, three at most, of this owner or of all.

        The one whose id it is; else those of this name, unfinished ones first, then the newest
        first; else those whose id begins so (from three characters on), newest first.
        """
        if not ref.isascii():  # as no id and no name is
            return []
        asked = {"ref": ref, "past": ref + "\U0010ffff", "uid": uid}
        owned = "(:uid IS NULL OR uid = :uid)"
        if found := await self._select(f"WHERE id = :ref AND {owned}", asked):
            return found
        order = f"ORDER BY state IN ({_ENDED}), seq DESC LIMIT 3"
        if found := await self._select(f"WHERE name = :ref AND {owned} {order}", asked):
            return found
        if len(ref) < 3:
            return []
        begins = f"WHERE id > :ref AND id < :past AND {owned} ORDER BY seq DESC LIMIT 3"
        return await self._select(begins, asked)

    async def page(
        self,
        uid: int | None = None,
        state: State | None = None,
        name: str | None = None,
        limit: int = 100,
        after: int | None = None,
    ) -> list[Record]:
        """At most `limit` jobs, newest first, of those submitted before the one with seq `after`.
        None asks for all owners, states or names, and for the newest page."""
        if name is not None and not name.isascii():
            return []
        asked = {"uid": uid, "state": state and state.value, "name": name}
        said = {column: value for column, value in asked.items() if value is not None}
        tests = [f"{column} = :{column}" for column in said]
        if after is not None:
            said["after"] = after
            tests.append("seq < :after")
        where = f"WHERE {' AND '.join(tests)} " if tests else ""
        return await self._select(f"{where}ORDER BY seq DESC LIMIT :limit", said | {"limit": limit})

    async def ended_before(
        self, ns: int, state: State | None = None, uid: int | None = None
    ) -> list[str]:
        """The ids of jobs that ended before this time, the earliest first."""
        query = (
            f"SELECT id FROM jobs WHERE ended_ns < :ns AND state IN ({_ENDED}) "  # noqa: S608
            "AND (:state IS NULL OR state = :state) AND (:uid IS NULL OR uid = :uid) "
            "ORDER BY ended_ns"
        )
        asked = {"ns": ns, "state": state and state.value, "uid": uid}
        return [row[0] for row in await self._query(query, asked)]

    async def attempts(self, job: str) -> list[AttemptRow]:
        """The runs of a job that have ended, the first one first."""
        query = (
            "SELECT attempt, started_ns, ended_ns, verdict, limits FROM attempts "
            "WHERE job = :job ORDER BY attempt"
        )
        rows = await self._query(query, {"job": job})
        return [
            AttemptRow(number, started, ended, from_json(verdict), from_json(limits))
            for number, started, ended, verdict, limits in rows
        ]

    async def transitions(self, job: str) -> list[Transition]:
        """What happened to a job, in the order in which it was saved."""
        query = "SELECT * FROM transitions WHERE job = :job ORDER BY rowid"
        rows = await self._query(query, {"job": job})
        return [Transition(job, number, State(state), *rest) for _, number, state, *rest in rows]

    async def setting(self, key: str) -> str | None:
        """What set_setting kept under this name."""
        rows = await self._query("SELECT value FROM settings WHERE key = :key", {"key": key})
        return rows[0][0] if rows else None

    # ---- from the loop to the thread

    def _submit(
        self, work: Callable[[sqlite3.Connection], T], *, soon: bool = False
    ) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._held.append(_Piece(work, future))
        if not soon:
            self._hand_over()
        elif self._flush is None:
            self._flush = self._loop.call_later(_MOMENT, self._hand_over)
        return future

    def _hand_over(self) -> None:
        """To the thread; that wakes another processor, which costs more than the work."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        pieces, self._held = self._held, []
        if pieces:
            self._queue.put(pieces)

    async def _query(self, query: str, values: Mapping[str, object]) -> list[Any]:
        return await self._submit(lambda connection: connection.execute(query, values).fetchall())

    async def _select(self, where: str, values: Mapping[str, object] | None = None) -> list[Record]:
        rows = await self._query(f"{SELECT} {where}", values or {})
        return [record_of(row) for row in rows]

    # ---- in the thread

    def _serve(self) -> None:
        goes_on = True
        while goes_on:
            pieces, goes_on = self._taken()
            answers = self._together(pieces)
            self._loop.call_soon_threadsafe(_resolve, answers)
        self._connection.close()

    def _taken(self) -> tuple[list[_Piece], bool]:
        """All that waits, once there is something; and whether there may be more."""
        pieces: list[_Piece] = []
        more = self._queue.get()
        while more is not None:
            pieces += more
            if len(pieces) >= _BATCH or self._queue.empty():
                return pieces, True
            more = self._queue.get()
        return pieces, False

    def _together(self, pieces: list[_Piece]) -> list[_Answer]:
        try:
            results = self._transaction(pieces)
        except Exception as error:  # noqa: BLE001 - of any kind: it goes to whoever asked
            if len(pieces) > 1:
                return [answer for piece in pieces for answer in self._together([piece])]
            return [_Answer(piece.future, None, _told(error, self._path)) for piece in pieces]
        pairs = zip(pieces, results, strict=True)
        return [_Answer(piece.future, result, None) for piece, result in pairs]

    def _transaction(self, pieces: list[_Piece]) -> list[Any]:
        """Do all of it or nothing."""
        before = self._connection.total_changes
        self._kept.begin()
        self._connection.execute("BEGIN")
        try:
            results = [piece.work(self._connection) for piece in pieces]
            if self._connection.total_changes != before:
                reached("uncommitted")
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have undone it already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._kept.apply()
        if self._connection.total_changes != before:
            self.commits += 1
            reached("committed")
        return results


def _run(connection: sqlite3.Connection, statement: str, row: tuple[object, ...]) -> None:
    connection.execute(statement, row)


def _resolve(answers: list[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():  # whoever asked was cancelled
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


_UNWRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
)


def _told(error: Exception, path: Path) -> Exception:
    """The error as one of ours, where it is the disk's and not a bug."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(f"the records in {path} are damaged: {error}")
    if isinstance(error, OSError) or code in _UNWRITABLE:
        hint = f"the file system of {path.parent} needs space, and to be writable"
        return StorageFull(f"the records in {path} cannot be written: {error}", hint=hint)
    return error


def _last_seq(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return int(row[0]) if row else 0
