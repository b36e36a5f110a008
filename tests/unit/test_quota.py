"""What of the disk is set aside for whom."""

from __future__ import annotations

from bisect import bisect_left
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

    def all_of(self, peer: Peer) -> int:
        """The largest output-max that is not refused now."""
        return bisect_left(range(MOST + 1), 1, key=lambda size: self.refuses(size + 1, peer))

    def refuses(self, size: int, peer: Peer) -> bool:
        try:
            self.quota.limited(Request.make(["x"], output_max=size), peer.uid)
        except QuotaExceeded:
            return True
        return False


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
    assert owners.take(ANNA, output_max=50_000 - (40 << 10)) == 50_000 - (40 << 10)
    assert owners.take(ANNA, output_max=CRUMB) == CRUMB  # also where nothing is free
    assert owners.take(ANNA, output_max=0) == 0
    assert owners.take(ROOT, output_max="100G") == 100 << 30


def test_what_is_asked_for_is_in_force_or_refused(owners: Owners) -> None:
    owners.kept[ANNA.uid] = MOST - (9 << 10)
    with pytest.raises(QuotaExceeded) as refused:
        owners.take(ANNA, output_max="10K")
    assert refused.value.message == (
        "output_max: 10K is more than the 9K that are free of the 80000 for the output and input "
        "of your jobs"
    )
    assert refused.value.hint == (
        "a smaller output limit: --output-max 9K is the most now; jobsup prune removes ended jobs"
    )
    assert owners.take(ANNA, output_max="9K") == 9 << 10
    assert owners.take(ANNA) == CRUMB  # the default alone is cut


def test_and_as_often_as_runs_are_kept(owners: Owners) -> None:
    owners.kept[ANNA.uid] = MOST - (44 << 10)
    with pytest.raises(QuotaExceeded) as refused:
        owners.take(ANNA, output_max="5K", restart="always")
    assert refused.value.message.startswith(
        "output_max: 5K, times the 11 runs whose output is kept, is more than the 44K that are free"
    )
    assert refused.value.hint is not None
    assert "--output-max 4K" in refused.value.hint
    assert owners.take(ANNA, output_max="4K", restart="always") == 4 << 10
    assert owners.take(ANNA, restart="always") == CRUMB // 11


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
    with pytest.raises(QuotaExceeded):
        owners.take(ANNA, output_max=MOST // runs + 1, **option)
    assert owners.take(ANNA, output_max=MOST // runs, **option) == MOST // runs
    assert owners.all_of(ANNA) == max(CRUMB, MOST % runs)


def test_input_is_counted_on_its_way_and_when_a_job_has_it(owners: Owners) -> None:
    with owners.quota.uploading(ANNA) as upload, owners.quota.uploading(ANNA) as other:
        upload.grow(50_000)
        with pytest.raises(QuotaExceeded, match=f"may take {MOST} bytes"):
            other.grow(30_001)
        other.grow(20_000)
        assert owners.all_of(ANNA) == MOST - 70_000
        assert owners.take(ANNA, stdin=50_000, output_max=MOST - 70_000) == MOST - 70_000
    assert owners.all_of(ANNA) == MOST - 50_000 - 10_000
    with owners.quota.uploading(ROOT) as upload:
        upload.grow(10 * MOST)
    assert owners.quota._uploads == owners.quota._uploaded == {}


def test_an_earlier_daemons_input_is_counted_as_well(owners: Owners, tmp_path: Path) -> None:
    owners.take(ANNA, output_max=0)
    owners.quota._inputs.clear()
    (tmp_path / "jobs" / "job0").mkdir(parents=True)
    (tmp_path / "jobs" / "job0" / "stdin").write_bytes(bytes(1000))
    assert owners.all_of(ANNA) == MOST - 1000


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
    assert owners.all_of(ANNA) == MOST


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
