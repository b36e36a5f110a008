"""Which job somebody means, with the real records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from jobsup.supervisor.daemon.finding import Finder
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.peer import Peer
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.daemon.store import Store
from jobsup.supervisor.errors import Ambiguous, BadValue, NoSuchJob

ROOT, ALICE, BOB = (Peer(uid, uid, (), 1) for uid in (0, 1000, 2000))

JOBS = [  # in the order of submission
    ("aaa111", ALICE, "build", State.COMPLETED),
    ("aaa222", ALICE, "build", State.FAILED),
    ("bbb111", ALICE, "test", State.RUNNING),
    ("bbb222", ALICE, "test", State.COMPLETED),
    ("ccc111", ALICE, "many", State.RUNNING),
    ("ccc222", ALICE, "many", State.QUEUED),
    ("ddd111", BOB, "build", State.RUNNING),
    ("ddd222", BOB, "secret", State.COMPLETED),
    ("eee111", ALICE, "aaa", State.COMPLETED),
    ("ff1111", ALICE, "ff", State.COMPLETED),
    ("ff2222", ALICE, "ff", State.COMPLETED),
    ("ggg111", ALICE, None, State.COMPLETED),
    ("ggg222", ALICE, None, State.COMPLETED),
    ("ggg333", ALICE, None, State.COMPLETED),
]


class Held:
    """Stands for a LiveJob."""

    def __init__(self, record: Record) -> None:
        self.record = record


def with_finder(path: Path, body: Callable[[Finder], Awaitable[Any]]) -> None:
    async def main() -> None:
        store = await Store.open(path / "jobs.db")
        live = {}
        for number, (job_id, peer, name, state) in enumerate(JOBS):
            record = Record(
                id=job_id, uid=peer.uid, gid=0, name=name, state=state, queued_ns=number + 1
            )
            await store.save(record)
            if state in (State.RUNNING, State.QUEUED):
                record.reason = "of the one in memory"
                live[job_id] = Held(record)
        try:
            await body(Finder(store, cast("dict[str, LiveJob]", live)))
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("peer", "ref", "found"),
    [
        (ALICE, "aaa111", "aaa111"),
        (ALICE, "aaa1", "aaa111"),
        (ALICE, "build", "aaa222"),  # the newest of the ended ones
        (ALICE, "test", "bbb111"),  # the one that has not ended
        (ROOT, "build", "ddd111"),
        (ROOT, "ddd2", "ddd222"),
        (BOB, "build", "ddd111"),
        (BOB, "secret", "ddd222"),
        (ALICE, "ff", "ff2222"),  # two characters are a name, though ids begin so
    ],
)
def test_ids_their_beginnings_and_names(tmp_path: Path, peer: Peer, ref: str, found: str) -> None:
    async def body(finder: Finder) -> None:
        assert (await finder.find(ref, peer)).id == found

    with_finder(tmp_path, body)


@pytest.mark.parametrize(
    ("peer", "ref", "named"),
    [
        (ALICE, "bbb", ["bbb111", "bbb222"]),
        (ALICE, "many", ["ccc111", "ccc222"]),
        (ROOT, "ddd", ["ddd111", "ddd222"]),
        (ALICE, "ggg", ["ggg333", "ggg222"]),
    ],
)
def test_several_are_named(tmp_path: Path, peer: Peer, ref: str, named: list[str]) -> None:
    async def body(finder: Finder) -> None:
        with pytest.raises(Ambiguous) as refused:
            await finder.find(ref, peer)
        told = refused.value.message
        assert {job_id for job_id, *_ in JOBS if job_id in told} == set(named)
        assert ref in told.split() or f"{ref}:" in told.split()
        more = sum(ref in (job_id[:3], name) for job_id, _, name, _ in JOBS) > len(named)
        assert told.endswith(", …") == more
        assert refused.value.hint

    with_finder(tmp_path, body)


def test_a_name_comes_before_the_beginning_of_ids(tmp_path: Path) -> None:
    """Whoever gave it meant it, and it could not be said otherwise."""

    async def body(finder: Finder) -> None:
        assert (await finder.find("aaa", ALICE)).name == "aaa"

    with_finder(tmp_path, body)


def test_of_the_jobs_of_one_name_only_unfinished_ones_are_told_apart(tmp_path: Path) -> None:
    """A name that is used again and again means the job that is there now."""

    async def body(finder: Finder) -> None:
        assert (await finder.find("test", ROOT)).id == "bbb111"

    with_finder(tmp_path, body)


@pytest.mark.parametrize("ref", ["aaa111", "aaa1", "many", "bbb111", "test", "ccc222"])
def test_somebody_elses_answers_as_one_that_is_not_there(tmp_path: Path, ref: str) -> None:
    async def body(finder: Finder) -> None:
        with pytest.raises(NoSuchJob) as foreign:
            await finder.find(ref, BOB)
        absent = ref.translate(str.maketrans("abcmt", "zyxwv"))
        with pytest.raises(NoSuchJob) as nobody:
            await finder.find(absent, BOB)
        assert foreign.value.message.replace(ref, absent) == nobody.value.message
        assert foreign.value.hint == nobody.value.hint

    with_finder(tmp_path, body)


@pytest.mark.parametrize("ref", ["", "a", "aa", "%", "aaa%", "_aa", "x" * 5000, "\ud800", "nö"])
def test_what_names_nothing(tmp_path: Path, ref: str) -> None:
    async def body(finder: Finder) -> None:
        with pytest.raises(NoSuchJob) as refused:
            await finder.find(ref, ROOT)
        assert len(refused.value.message) < 500
        assert ("first 3 characters" in (refused.value.hint or "")) == (len(ref) < 3)

    with_finder(tmp_path, body)


def test_the_record_is_the_one_that_lives(tmp_path: Path) -> None:
    async def body(finder: Finder) -> None:
        for ref in ("bbb111", "bbb1", "test"):
            assert (await finder.find(ref, ALICE)).reason == "of the one in memory"

    with_finder(tmp_path, body)


def test_pages_are_newest_first_and_of_ones_own(tmp_path: Path) -> None:
    async def body(finder: Finder) -> None:
        async def page(peer: Peer, limit: int = 100, **asked: Any) -> list[str]:  # noqa: ANN401
            given = {"state": None, "name": None, "after": None, **asked}
            found, rest = [], True
            while rest:
                answer = await finder.page(peer, limit=limit, **given)
                assert len(answer.jobs) <= limit
                found += [job.id for job in answer.jobs]
                given["after"], rest = answer.next, answer.next is not None
            return found

        newest_first = [job_id for job_id, *_ in reversed(JOBS)]
        for limit in (1, 2, len(JOBS), 1000):
            assert await page(ROOT, limit) == newest_first
        assert await page(BOB) == ["ddd222", "ddd111"]
        assert await page(ROOT, name="build") == ["ddd111", "aaa222", "aaa111"]
        assert await page(ALICE, name="build", state="failed") == ["aaa222"]
        assert await page(BOB, state="queued") == []

    with_finder(tmp_path, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", 0), ("limit", 1001), ("state", "runing"), ("after", "x"), ("after", "-1"),
     ("after", "9" * 19), ("after", "\u0661"), ("after", "")],
)  # fmt: skip
def test_what_is_no_page(tmp_path: Path, field: str, value: object) -> None:
    async def body(finder: Finder) -> None:
        asked: dict[str, Any] = {"state": None, "name": None, "limit": 1, "after": None}
        with pytest.raises(BadValue) as refused:
            await finder.page(ROOT, **{**asked, field: value})
        assert refused.value.field == field

    with_finder(tmp_path, body)
