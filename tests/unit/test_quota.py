"""What of the disk is set aside for whom."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobsup.supervisor.daemon.peer import Peer
from jobsup.supervisor.daemon.quota import OUTPUT_MAX, Quota
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.errors import QuotaExceeded
from jobsup.supervisor.request import Request

ROOT, ANNA, BERT = (Peer(uid, uid, (), 1) for uid in (0, 1001, 1002))
MOST = 80_000
CRUMB = MOST // 10 // 100


class Owners:
    """Who has so much of ended jobs, and these unfinished ones; `live` of theirs is written."""

    def __init__(self, root: Path) -> None:
        self.kept: dict[int, int] = {}
        self.live = 0
        self.jobs: dict[str, Any] = {}
        self.store = SimpleNamespace(kept_bytes=lambda uid: self.kept.get(uid, 0))
        self.launcher = SimpleNamespace(spool_bytes=lambda _: self.live)
        settings = Settings(lib=root, run=root, owner_bytes=MOST, owner_jobs=100)
        self.quota = Quota(settings, self)  # type: ignore[arg-type]

    async def in_thread(self, call: Callable[[], int]) -> int:
        return call()

    def take(self, peer: Peer, *, stdin: int = 0, attached: bool = False, **options: Any) -> int:  # noqa: ANN401
        """One job more; its output-max."""
        request = self.quota.limited(Request.make(["x"], **options), peer.uid)
        job_id = f"job{len(self.jobs)}"
        record = SimpleNamespace(id=job_id, uid=peer.uid, attached=attached)
        job = self.jobs[job_id] = Held(record, request)
        self.quota.note_input(job, stdin)  # type: ignore[arg-type]
        assert request.spec.output_max is not None
        return request.spec.output_max


class Held:
    def __init__(self, record: SimpleNamespace, request: Request) -> None:
        self.record, self.request = record, request


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return Owners(tmp_path)


def test_all_jobs_together_stay_within_the_quota_and_their_crumbs(owners: Owners) -> None:
    first, second = owners.take(ANNA), owners.take(ANNA)
    assert (first, second) == (MOST // 8, (MOST - MOST // 8) // 8)
    shares = [owners.take(ANNA) for _ in range(98)]
    assert min(shares) == CRUMB
    assert first + second + sum(shares) <= MOST + MOST // 10
    assert owners.take(BERT) == first
    assert owners.take(ROOT) == OUTPUT_MAX


def test_who_asks_for_all_gets_all_that_is_free(owners: Owners) -> None:
    owners.kept[ANNA.uid] = 30_000
    assert owners.take(ANNA, output_max="40K") == 40 << 10
    assert owners.take(ANNA, output_max="1G") == MOST - 30_000 - (40 << 10)
    assert owners.take(ANNA, output_max="1G") == CRUMB
    assert owners.take(ANNA, output_max=0) == 0
    assert owners.take(ROOT, output_max="100G") == 100 << 30


@pytest.mark.parametrize(
    ("option", "runs"),
    [
        ({"restart": "always"}, 11),
        ({"every": "* * * * *"}, 11),
        ({"restart": "on-failure:3"}, 4),
        ({"restart": "on-failure:30"}, 11),
        ({"restart": "no"}, 1),
    ],
)
def test_a_job_that_runs_again_keeps_the_output_of_several_runs(
    owners: Owners, option: dict[str, Any], runs: int
) -> None:
    assert owners.take(ANNA, output_max="1G", **option) == MOST // runs
    assert owners.take(ANNA, output_max="1G") <= max(CRUMB, MOST % runs)


def test_input_is_counted_on_its_way_and_when_a_job_has_it(owners: Owners) -> None:
    with owners.quota.uploading(ANNA) as upload, owners.quota.uploading(ANNA) as other:
        upload.grow(50_000)
        with pytest.raises(QuotaExceeded, match=f"may take {MOST} bytes"):
            other.grow(30_001)
        other.grow(20_000)
        assert owners.take(ANNA, stdin=50_000, output_max="1G") == MOST - 70_000
    assert owners.take(ANNA, output_max="1G") == MOST - 50_000 - 10_000
    with owners.quota.uploading(ROOT) as upload:
        upload.grow(10 * MOST)
    assert owners.quota._uploads == owners.quota._uploaded == {}


def test_an_earlier_daemons_input_is_counted_as_well(owners: Owners, tmp_path: Path) -> None:
    owners.take(ANNA, output_max=0)
    owners.quota._inputs.clear()
    (tmp_path / "jobs" / "job0").mkdir(parents=True)
    (tmp_path / "jobs" / "job0" / "stdin").write_bytes(bytes(1000))
    assert owners.take(ANNA, output_max="1G") == MOST - 1000


def test_so_many_uploads_at_once(owners: Owners) -> None:
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(owners.quota.uploading(ANNA))
        with pytest.raises(QuotaExceeded, match="16 jobs at once"):
            stack.enter_context(owners.quota.uploading(ANNA))
        stack.enter_context(owners.quota.uploading(BERT))
    with owners.quota.uploading(ANNA):
        pass


def test_foreground_output_is_not_kept(owners: Owners) -> None:
    owners.take(ANNA, attached=True)
    assert owners.take(ANNA, output_max="1G") == MOST


async def _room(owners: Owners, peer: Peer) -> None:
    await owners.quota.require_room(peer.uid)


def test_nothing_new_when_all_is_used_up(owners: Owners) -> None:
    import asyncio

    owners.take(ANNA)
    owners.live, owners.kept[ANNA.uid] = 40_000, 39_999
    asyncio.run(_room(owners, ANNA))
    with owners.quota.uploading(ANNA) as upload:
        upload.grow(1)
        with pytest.raises(QuotaExceeded, match=f"takes {MOST} bytes, and {MOST} is the most"):
            asyncio.run(_room(owners, ANNA))
    asyncio.run(_room(owners, ROOT))
