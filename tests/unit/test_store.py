"""The records: durable when awaited, in order, and whatever happens to their file, told."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.daemon.records import AttemptRow, Record
from jobsup.supervisor.daemon.schema import VERSION
from jobsup.supervisor.daemon.state import ENDED, State
from jobsup.supervisor.daemon.store import Store
from jobsup.supervisor.errors import SchemaTooNew, StorageFull, StoreCorrupt


def job(number: int, **fields: Any) -> Record:  # noqa: ANN401 - those of Record
    """A record whose id says its number."""
    return Record(**{"id": f"{number:04x}aaaa", "uid": 0, "gid": 0, "queued_ns": number, **fields})


def with_store(path: Path, body: Callable[[Store], Awaitable[Any]]) -> Any:  # noqa: ANN401
    """What `body` gives for the store of this file."""

    async def main() -> object:
        store = await Store.open(path)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def saved(*records: Record) -> Callable[[Store], Coroutine[Any, Any, None]]:
    async def save(store: Store) -> None:
        await asyncio.gather(*map(store.save, records))

    return save


# ---- what is kept

TEXT = st.text(max_size=8) | st.just("\udcff\ud800") | st.just("\u202e")
NS = st.integers(0, 2**63 - 1)
JSON = st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT), max_size=3)
RECORDS = st.builds(
    Record,
    id=st.uuids().map(lambda uuid: uuid.hex),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    groups=st.lists(st.integers(0, 2**32 - 2)).map(tuple),
    user=st.just("é"),
    name=st.none() | st.just("name"),
    request=JSON,
    argv=st.lists(TEXT),
    state=st.sampled_from(State),
    attempt=st.integers(1, 2**31),
    queued_ns=NS,
    started_ns=st.none() | NS,
    ended_ns=st.none() | NS,
    due_ns=st.none() | NS,
    reason=st.none() | st.just("waits"),
    boot_id=st.just("boot"),
    attached=st.booleans(),
    stop=st.none() | st.tuples(st.integers(1, 64), st.integers(0, 2**40)),
    limits=st.dictionaries(TEXT, TEXT),
    verdict=st.none() | JSON,
    output_bytes=st.integers(0, 2**62),
)


@given(st.lists(RECORDS, max_size=3, unique_by=lambda record: record.id))
def test_a_record_comes_back_as_it_was(tmp_path_factory: Any, records: list[Record]) -> None:  # noqa: ANN401
    path = tmp_path_factory.mktemp("store") / "jobs.db"
    with_store(path, saved(*records))
    for record in records:
        assert with_store(path, methodcaller("get", record.id)) == record


def test_what_is_saved_is_what_it_was_at_the_call(path: Path) -> None:
    async def body(store: Store) -> Record | None:
        record = job(1, request={"argv": ["a"]})
        saving = store.save(record)
        record.state = State.RUNNING
        record.request["argv"].append("b")
        await saving
        return await store.get(record.id)

    found = with_store(path, body)
    assert (found.state, found.request) == (State.QUEUED, {"argv": ["a"]})


def test_order_is_that_of_the_calls_and_of_no_clock(path: Path) -> None:
    async def body(store: Store) -> list[int]:
        records = [job(number, queued_ns=100 - number) for number in range(50)]
        await asyncio.gather(*map(store.save, records))
        assert [record.id for record in await store.unfinished()] == [r.id for r in records]
        return [record.seq for record in records]

    assert with_store(path, body) == list(range(1, 51))


def test_a_number_is_never_used_again(path: Path) -> None:
    """A cursor into the list must not come to mean another place."""

    async def replace(store: Store) -> int:
        record = job(1)
        await store.save(record)
        await store.delete([record.id])
        return record.seq

    assert [with_store(path, replace) for _ in range(3)] == [1, 2, 3]


def test_a_read_sees_what_was_saved_before_it(path: Path) -> None:
    async def body(store: Store) -> None:
        record = job(1)
        for state in (State.STARTING, State.RUNNING, State.COMPLETED):
            record.state = state
            saving = store.save(record)
            found = await store.get(record.id)
            assert found is not None
            assert found.state is state
            assert saving.done()

    with_store(path, body)


def test_moves_are_kept_with_their_reasons(path: Path) -> None:
    async def body(store: Store) -> list[tuple[object, ...]]:
        record = job(1)
        await store.save(record)
        record.reason = "waits for a free place"
        await store.save(record, event=False)
        record.state = State.RUNNING
        await store.save(record)
        record.verdict = {"cause": "signaled", "status": 137}
        record.state, record.reason, record.attempt = State.FAILED, None, 2
        await store.save(record)
        return [
            (t.attempt, t.state, t.reason, t.cause, t.status)
            for t in await store.transitions(record.id)
        ]

    assert with_store(path, body) == [
        (1, State.QUEUED, None, None, None),
        (1, State.RUNNING, "waits for a free place", None, None),
        (2, State.FAILED, None, "signaled", 137),
    ]


def test_attempts_are_kept_until_they_are_too_many(path: Path) -> None:
    async def body(store: Store) -> list[AttemptRow]:
        record = job(1)
        for attempt in range(1, 5):
            record.attempt = attempt
            await store.save(record)
            verdict = {"status": attempt}
            await store.save_attempt(record.id, attempt, attempt, None, verdict, {"k": "v"})
        await store.delete_attempts(record.id, 3)
        assert [move.attempt for move in await store.transitions(record.id)] == [3, 4]
        return await store.attempts(record.id)

    assert with_store(path, body) == [
        AttemptRow(3, 3, None, {"status": 3}, {"k": "v"}),
        AttemptRow(4, 4, None, {"status": 4}, {"k": "v"}),
    ]


def test_what_is_forgotten_leaves_nothing(path: Path) -> None:
    async def body(store: Store) -> None:
        await saved(job(1), job(2))(store)
        for number in (1, 2):
            await store.save_attempt(job(number).id, 1, 1, 2, None, {})
        await store.delete([job(1).id, "no such job"])
        assert await store.get(job(1).id) is None
        assert not await store.attempts(job(1).id)
        assert not await store.transitions(job(1).id)
        assert len(await store.attempts(job(2).id)) == len(await store.transitions(job(2).id)) == 1

    with_store(path, body)


def test_settings_are_texts_by_name(path: Path) -> None:
    async def body(store: Store) -> str | None:
        assert await store.setting("ready") is None
        await store.set_setting("ready", "no")
        await store.set_setting("ready", "yes")
        return await store.setting("ready")

    assert with_store(path, body) == "yes"


# ---- lists


def test_pages_go_backwards_by_owner_state_and_name(path: Path) -> None:
    async def body(store: Store) -> None:
        states = list(State)
        await saved(
            *(job(n, uid=n % 3, state=states[n % 9], name=f"n{n % 2}") for n in range(1, 28))
        )(store)

        async def seqs(**asked: Any) -> list[int]:  # noqa: ANN401
            return [record.seq for record in await store.page(**asked)]

        assert await seqs(limit=3) == [27, 26, 25]
        assert await seqs(limit=3, after=25) == [24, 23, 22]
        assert await seqs(after=1) == []
        assert await seqs(uid=1) == list(range(25, 0, -3))
        assert await seqs(state=states[4]) == [22, 13, 4]
        assert await seqs(uid=1, state=states[4]) == [22, 13, 4]
        assert await seqs(uid=2, state=states[4]) == []
        assert await seqs(name="n1", uid=0, limit=2, after=20) == [15, 9]
        assert await seqs(name="' OR 1 --") == await seqs(name="\ud800") == []

    with_store(path, body)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"uid": 1},
        {"state": State.RUNNING},
        {"uid": 1, "state": State.RUNNING},
        {"name": "n"},
        {"uid": 1, "name": "n"},
    ],
)
@pytest.mark.parametrize("after", [None, 5000])
def test_a_page_costs_no_more_than_a_page(path: Path, asked: dict[str, Any], after: int) -> None:
    """Whatever lies before and behind it is neither read nor sorted: SQLite says so itself."""
    statements: list[str] = []

    async def body(store: Store) -> None:
        store._connection.set_trace_callback(statements.append)
        await store.page(**asked, after=after)

    with_store(path, body)
    query = next(statement for statement in statements if statement.startswith("SELECT"))
    with closing(sqlite3.connect(path)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert len(plan) == 1, plan
    selective = "USING INDEX" in plan[0] or "PRIMARY KEY" in plan[0]
    assert selective or (plan == ["SCAN jobs"] and not asked), plan


def test_a_job_is_meant_by_its_id_the_start_of_it_or_its_name(path: Path) -> None:
    async def body(store: Store) -> None:
        await saved(
            Record(id="abc1", uid=1, gid=1, queued_ns=1, name="web", state=State.FAILED),
            Record(id="abc2", uid=2, gid=2, queued_ns=2, name="web"),
            Record(id="abc", uid=1, gid=1, queued_ns=3, name="abc1"),
            Record(id="xyz1", uid=1, gid=1, queued_ns=4, name="web", state=State.FAILED),
        )(store)

        async def ids(ref: str, uid: int | None = None) -> list[str]:
            return [record.id for record in await store.matching(ref, uid)]

        assert await ids("abc1") == ["abc1"]
        assert await ids("abc") == ["abc"]
        assert await ids("xyz") == ["xyz1"]
        assert await ids("xy") == []
        assert await ids("abc2", uid=1) == []
        assert await ids("abc1", uid=2) == []
        assert await ids("web") == ["abc2", "xyz1", "abc1"]
        assert await ids("web", uid=1) == ["xyz1", "abc1"]
        for nothing in ("", "\ud800", "a\0", "%", "abc%", "ab?1", "\U0010ffff", "x" * 10_000):
            assert await ids(nothing) == []
        await store.delete(["abc"])
        assert await ids("abc") == ["abc2", "abc1"]

    with_store(path, body)


def test_what_ended_long_ago_is_found_and_what_runs_never_is(path: Path) -> None:
    async def body(store: Store) -> None:
        await saved(
            *(job(n, state=state, ended_ns=n, uid=n % 2) for n, state in enumerate(State, 1))
        )(store)
        wanted = [job(n).id for n, state in enumerate(State, 1) if state in ENDED]
        assert await store.ended_before(100) == wanted
        assert await store.ended_before(8) == wanted[:2]
        assert await store.ended_before(100, State.FAILED) == [wanted[1]]
        assert await store.ended_before(100, uid=0) == wanted[::2]

    with_store(path, body)


def test_kept_output_is_counted_by_owner_once_it_has_ended(path: Path) -> None:
    async def body(store: Store) -> None:
        one, two = job(1, uid=7, output_bytes=10), job(2, uid=7, output_bytes=5, state=State.LOST)
        await saved(one, two)(store)
        assert store.kept_bytes(7) == 5
        one.state = State.COMPLETED
        await store.save(one)
        one.output_bytes = 11
        await store.save(one)
        assert (store.kept_bytes(7), store.kept_bytes(8)) == (16, 0)

    async def again(store: Store) -> None:
        assert store.kept_bytes(7) == 16
        await store.delete([job(1).id])
        assert store.kept_bytes(7) == 5
        three = job(3, uid=7, output_bytes=3, state=State.FAILED)
        undone = store._submit(lambda connection: connection.execute("nonsense"))
        await asyncio.gather(store.save(three), undone, return_exceptions=True)
        assert store.kept_bytes(7) == 8

    with_store(path, body)
    with_store(path, again)


# ---- durability


def test_many_saves_share_a_commit(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.save(job(0))
        assert store.commits == 1
        await saved(*(job(number) for number in range(1, 401)))(store)
        assert 2 <= store.commits <= 41, store.commits
        before = store.commits
        await store.page()
        await store.delete(["no such job"])
        assert store.commits == before  # nothing was changed, nothing was synced

    with_store(path, body)


def test_a_commit_is_on_the_disk(path: Path) -> None:
    async def body(store: Store) -> tuple[str, int]:
        connection = store._connection
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return mode, synchronous

    assert with_store(path, body) == ("wal", 2)


WRITER = """
import asyncio, sys
from pathlib import Path
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.daemon.store import Store

async def submit(store, worker):
    number = 0
    while True:
        number += 1
        record = Record(id=f"{worker}-{number}", uid=worker, gid=0, queued_ns=1)
        await store.save(record)
        print(f"{record.id} queued", flush=True)
        record.state = State.COMPLETED
        await store.save(record)
        print(f"{record.id} completed", flush=True)

async def main():
    store = await Store.open(Path(sys.argv[1]))
    print("ready", flush=True)
    await asyncio.gather(*(submit(store, worker) for worker in range(8)))

asyncio.run(main())
"""


def test_nothing_acknowledged_is_lost_by_a_kill(path: Path) -> None:
    """A process writes and says what was acknowledged; it is killed in the middle, five times."""
    told: dict[str, str] = {}
    for _ in range(5):
        path.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        told = _killed_after(path, random.randint(1, 2000))
        found = with_store(path, lambda store: store.page(limit=10**6))
        kept = {record.id: record.state.value for record in found}
        assert told.keys() <= kept.keys()
        # What was saved and not yet told may be there as well, never less than what was told.
        assert all(kept[name] == "completed" for name, state in told.items() if state != "queued")
        assert len(kept) <= len(told) + 8


def _killed_after(path: Path, lines: int) -> dict[str, str]:
    """The last word on each id before the writer was killed, some time after so many lines."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        printed = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        printed += writer.stdout.readlines()
    whole = [line.split() for line in printed if line.endswith("\n")]
    return {words[0]: words[1] for words in whole}


# ---- what cannot be done is told to whoever asked, and to nobody else


def test_what_cannot_be_saved_fails_alone(path: Path) -> None:
    async def body(store: Store) -> list[object]:
        records = [job(1), job(2, queued_ns=2**63), job(3, user="\ud800"), job(4)]
        results = await asyncio.gather(*map(store.save, records), return_exceptions=True)
        assert [record.id for record in await store.page()] == [job(4).id, job(1).id]
        assert await store.transitions(job(2).id) == []
        return [type(result) for result in results]

    nothing = type(None)
    assert with_store(path, body) == [nothing, OverflowError, UnicodeEncodeError, nothing]


def test_a_full_disk_is_told_and_recovered_from(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.save(job(1))
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count={pages}")
        big = job(2, request={"argv": ["x" * 100_000]})
        small = job(1, state=State.RUNNING)
        results = await asyncio.gather(
            store.save(big), store.save(small), store.get(job(1).id), return_exceptions=True
        )
        assert isinstance(results[0], StorageFull)
        assert str(path) in str(results[0])
        assert results[0].hint is not None
        assert results[1] is None
        assert isinstance(results[2], Record)
        assert results[2].state is State.RUNNING
        store._connection.execute("PRAGMA max_page_count=1000000")
        await store.save(big)
        assert await store.get(big.id) == big

    with_store(path, body)


def test_nobody_who_went_away_is_answered(path: Path) -> None:
    async def body(store: Store) -> None:
        saving = store.save(job(1))
        saving.cancel()
        assert await store.get(job(1).id) is not None

    with_store(path, body)


def test_a_closed_store_has_done_all_that_was_asked_for(path: Path) -> None:
    async def main() -> None:
        store = await Store.open(path)
        saving = [store.save(job(number)) for number in range(100)]
        await store.close()
        await asyncio.gather(*saving)
        with pytest.raises(RuntimeError, match="closed"):
            store.save(job(1))
        await store.close()

    asyncio.run(main())
    assert len(with_store(path, lambda store: store.page())) == 100
    assert not Path(f"{path}-wal").exists()


# ---- the file

# As version 1 made it, with a job of each kind in it.
VERSION_1 = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, groups TEXT NOT NULL, user TEXT NOT NULL, name TEXT,
    request TEXT NOT NULL, argv TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
    queued_ns INTEGER NOT NULL, started_ns INTEGER, ended_ns INTEGER, due_ns INTEGER, reason TEXT,
    boot_id TEXT NOT NULL, attached INTEGER NOT NULL, stop_signal INTEGER, stop_grace_ms INTEGER,
    limits TEXT NOT NULL, verdict TEXT);
CREATE INDEX jobs_name ON jobs (name) WHERE name IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state);
CREATE INDEX jobs_uid ON jobs (uid);
CREATE INDEX jobs_uid_state ON jobs (uid, state);
CREATE INDEX jobs_ended ON jobs (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE TABLE transitions (job TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL,
    at_ns INTEGER NOT NULL, reason TEXT, cause TEXT, status INTEGER);
CREATE INDEX transitions_job ON transitions (job, attempt);
CREATE TABLE attempts (job TEXT NOT NULL, attempt INTEGER NOT NULL, started_ns INTEGER,
    ended_ns INTEGER, verdict TEXT, limits TEXT NOT NULL, PRIMARY KEY (job, attempt)) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO jobs VALUES (7, 'aaaa1', 0, 0, '[0,4]', 'root', 'web', '{"argv":["ls"],"cwd":"/"}',
    '["ls"]', 'running', 2, 100, 200, NULL, NULL, NULL, 'boot', 0, 15, 5000,
    '{"pids.max":"4096"}', NULL);
INSERT INTO jobs VALUES (8, 'aaaa2', 1000, 1000, '[]', 'alice', NULL, '{"argv":["id"],"cwd":"/"}',
    '["id"]', 'completed', 1, 101, 201, 301, NULL, NULL, 'boot', 1, NULL, NULL,
    '{}', '{"status":0}');
INSERT INTO transitions VALUES ('aaaa2', 1, 'completed', 301, NULL, 'exited', 0);
INSERT INTO attempts VALUES ('aaaa1', 1, 150, 190, '{"status":1}', '{}');
INSERT INTO settings VALUES ('ready', 'no');
PRAGMA user_version = 1;
"""


def test_the_records_of_the_version_before_are_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)

    async def body(store: Store) -> None:
        running, ended = await store.get("aaaa1"), await store.get("aaaa2")
        assert running == Record(
            id="aaaa1", seq=7, uid=0, gid=0, groups=(0, 4), user="root", name="web",
            request={"argv": ["ls"], "cwd": "/"}, argv=["ls"], state=State.RUNNING, attempt=2,
            queued_ns=100, started_ns=200, boot_id="boot", stop=(15, 5000),
            limits={"pids.max": "4096"},
        )  # fmt: skip
        assert ended is not None
        assert (ended.attached, ended.verdict, ended.output_bytes) == (True, {"status": 0}, 0)
        assert (await store.attempts("aaaa1"))[0].verdict == {"status": 1}
        assert (await store.transitions("aaaa2"))[0].status == 0
        assert await store.setting("ready") == "no"
        assert store.quarantined is None
        await store.save(job(1, output_bytes=5))

    with_store(path, body)
    assert [record.seq for record in with_store(path, lambda store: store.page())] == [9, 8, 7]


def test_a_file_without_a_byte_is_a_new_one(path: Path) -> None:
    """As a crash right after its creation leaves it."""
    path.touch()
    with_store(path, saved(job(1)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_version_is_reached_as_a_whole_or_not_at_all(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        connection.execute("PRAGMA journal_mode=WAL")
        # What the step to version 2 adds: it cannot be added twice, so the step fails.
        connection.execute("ALTER TABLE jobs ADD COLUMN output_bytes")
        before = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="duplicate column"):
        with_store(path, lambda store: store.page())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_later_version_is_refused_and_left_as_it_is(path: Path, mode: str) -> None:
    with_store(path, saved(job(1)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew) as caught:
        with_store(path, lambda store: store.page())
    assert str(path) in str(caught.value)
    assert caught.value.hint is not None
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_also_when_it_stands_in_the_log_alone(path: Path) -> None:
    """As the later version leaves it when it is killed."""
    with_store(path, saved(job(1)))
    files = (path, Path(f"{path}-wal"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
        kept = [file.read_bytes() for file in files]  # closing would write the log back
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    with pytest.raises(SchemaTooNew):
        with_store(path, lambda store: store.page())
    assert [file.read_bytes() for file in files] == kept


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5000)


def _scribbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")


DAMAGES: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b"no database at all, and longer than a header of one " * 10),
    _truncated,
    _scribbled,
    _foreign,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_and_told(
    path: Path, damage: Callable[[Path], object]
) -> None:
    with_store(path, saved(*(job(number) for number in range(100))))
    damage(path)
    before = path.read_bytes()

    async def body(store: Store) -> Path | None:
        assert await store.page() == []
        await store.save(job(1))
        return store.quarantined

    aside = with_store(path, body)
    assert aside.read_bytes() == before
    assert aside.parent == path.parent
    assert with_store(path, lambda store: store.get(job(1).id)) is not None


def test_damage_that_is_met_later_is_told(path: Path) -> None:
    with_store(path, saved(*(job(number, argv=["x" * 500]) for number in range(200))))

    size = path.stat().st_size

    async def body(store: Store) -> None:
        os.pwrite(descriptor, b"\xff" * (size - 4096), 4096)
        with pytest.raises(StoreCorrupt, match=str(path)):
            await store.page(limit=1000)

    descriptor = os.open(path, os.O_WRONLY)
    try:
        with_store(path, body)
    finally:
        os.close(descriptor)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFull) as caught:
        with_store(tmp_path / "file" / "jobs.db", lambda store: store.page())
    assert caught.value.hint is not None


def test_only_the_owner_reads_the_file(path: Path) -> None:
    async def body(store: Store) -> set[int]:
        await store.save(job(1))
        return {entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}

    before = os.umask(0)
    try:
        assert with_store(path, body) == {0o600}
    finally:
        os.umask(before)


def test_who_reads_the_records_needs_no_http() -> None:
    code = "import sys, jobsup.supervisor.daemon.store; print('aiohttp' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
