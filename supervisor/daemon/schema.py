"""The tables of the records, their versions, and how a file of them is opened.

The version stands in `PRAGMA user_version`. A file of an earlier version is brought up step by
step, in one transaction; one of a later version is only looked at, read-only, and refused, so that
going back to the later version loses nothing. A file that is damaged, or no file of ours, is moved
aside and a new one begun: jobs are found again by their run directories.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..errors import SchemaTooNew

VERSION = 2

# Every index ends in seq, the table's own key: a page of what one index selects needs no sorting.
_JOBS = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, so that a page's cursor stays true
    id TEXT NOT NULL UNIQUE,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    groups TEXT NOT NULL,
    user TEXT NOT NULL,
    name TEXT,
    request TEXT NOT NULL,
    argv TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    queued_ns INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    due_ns INTEGER,
    reason TEXT,
    boot_id TEXT NOT NULL,
    attached INTEGER NOT NULL,
    stop_signal INTEGER,
    stop_grace_ms INTEGER,
    limits TEXT NOT NULL,
    verdict TEXT
);
CREATE INDEX jobs_name ON jobs (name) WHERE name IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state);
CREATE INDEX jobs_uid ON jobs (uid);
CREATE INDEX jobs_uid_state ON jobs (uid, state);
CREATE INDEX jobs_ended ON jobs (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE TABLE transitions (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    reason TEXT,
    cause TEXT,
    status INTEGER
);
CREATE INDEX transitions_job ON transitions (job, attempt);
CREATE TABLE attempts (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    verdict TEXT,
    limits TEXT NOT NULL,
    PRIMARY KEY (job, attempt)
) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

# What turns version N into N + 1; a new file goes through all of them.
_STEPS: dict[int, str] = {
    0: _JOBS,
    # Quotas count the bytes that an owner's jobs keep.
    1: "ALTER TABLE jobs ADD COLUMN output_bytes INTEGER NOT NULL DEFAULT 0;",
}


def open_database(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """The records at `path`, of this version and ready to write; made where there are none.

    Returns:
        The connection, and where a file that could not be used was moved to, or None.

    Raises:
        SchemaTooNew: the file is as it was.
        OSError, sqlite3.Error: the directory cannot be used.
    """
    aside = None
    if path.exists() and not _usable(path):
        aside = _move_aside(path)
    if not path.exists():
        _create(path)
    # Made in one thread and used in another, never in two at once.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _configure(connection)
        _bring_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection, aside


def _usable(path: Path) -> bool:
    """Whether the file can be read to its last page and is one of ours."""
    if path.stat().st_size == 0:  # a crash between its creation and its first commit
        return True
    # With a log beside it the log must be read too; without, looking need not even make one.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as looking:
            version = looking.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise SchemaTooNew(
                    f"{path} is of version {version}, this program knows up to {VERSION}",
                    hint="start the later version again, or move the file away",
                )
            if version == 0 and looking.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return False
            return bool(looking.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        raise


def _move_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    # The log first: it must never be applied to the file that takes this one's place.
    for suffix in ("-wal", "-shm", ""):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{aside}{suffix}")
    _sync_directory(path.parent)
    return aside


def _create(path: Path) -> None:
    # SQLite gives the log the same mode.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _configure(connection: sqlite3.Connection) -> None:
    # FULL: a commit is on the disk when it returns, not only after the next checkpoint.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA trusted_schema=OFF")


def _bring_up(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in range(version, VERSION):
        for statement in _statements(_STEPS[step]):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script: executescript() would commit before it begins."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
