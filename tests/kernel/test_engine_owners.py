"""Several users of one engine: each has their own jobs, rights and quotas."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.errors import BadValue, NoSuchJob, QuotaExceeded
from jobsup.supervisor.protocol import STREAMS, PruneRequest
from tests.kernel.engines import BIN, GOES_ON, NOBODY, ROOT, Daemon, message, with_daemon

IDENTITY = "id -u; id -g; id -G; grep ^Cap /proc/self/status"


@with_daemon()
async def test_a_job_runs_as_its_owner_with_no_capability(daemon: Daemon) -> None:
    peer = NOBODY._replace(groups=(65534, 100))
    record = await daemon.submit(IDENTITY, peer)
    status = await daemon.ended(record)
    assert status.user == "nobody"
    uid, gid, groups, *capabilities = daemon.output(record).split(b"\n")[:-1]
    assert (uid, gid, set(groups.split())) == (b"65534", b"65534", {b"65534", b"100"})
    assert {line.split()[1] for line in capabilities} == {b"0" * 16}


@pytest.mark.parametrize(
    ("option", "value"),
    [("user", "root"), ("group", 0), ("mem_low", "1M"), ("cpu_weight", 200)],
)
def test_what_only_root_may_ask_for(tmp_path: Path, option: str, value: Any) -> None:  # noqa: ANN401
    @with_daemon()
    async def test(daemon: Daemon) -> None:
        with pytest.raises(BadValue) as refused:
            await daemon.submit("true", NOBODY, **{option: value})
        assert refused.value.field == option
        assert daemon.files() == set()

    test(tmp_path)


@with_daemon()
async def test_nor_may_they_change_to_it(daemon: Daemon) -> None:
    record = await daemon.running(GOES_ON, NOBODY)
    for option, value in (("mem_low", "1M"), ("cpu_weight", 200), ("cgroup", ["memory.high=max"])):
        with pytest.raises(BadValue):
            await daemon.engine.change(record, {option: value})
    await daemon.engine.change(record, {"pids": 60, "cpu_weight": 50})


@with_daemon()
async def test_others_jobs_are_not_there(daemon: Daemon) -> None:
    theirs = await daemon.running(GOES_ON, NOBODY, name="work")
    ours = await daemon.running(GOES_ON, BIN, name="other")
    ended = await daemon.submit("true", NOBODY, name="done")
    await daemon.ended(ended)
    for ref in (theirs.id, theirs.id[:12], "work", ended.id, "done"):
        with pytest.raises(NoSuchJob):
            await daemon.engine.find(ref, BIN)
        assert (await daemon.engine.find(ref, ROOT)).uid == NOBODY.uid
    assert [job.id for job in (await daemon.engine.page(BIN)).jobs] == [ours.id]
    assert len((await daemon.engine.page(ROOT)).jobs) == 3
    assert await daemon.engine.prune(BIN, PruneRequest()) == []
    with daemon.engine.events.subscribe(BIN.uid) as events:
        for record in (theirs, ours):
            await daemon.engine.kill(record)
            await daemon.ended(record)
        daemon.engine.events.close()
        assert {event.id async for event in events} == {ours.id}
    assert len(await daemon.engine.prune(NOBODY, PruneRequest())) == 2


@with_daemon()
async def test_no_job_reaches_the_state(daemon: Daemon) -> None:
    where = daemon.directory
    for peer in (ROOT, NOBODY):
        record = await daemon.submit(f"ls -A {where}/lib {where}/run", peer, rw=["/tmp"])
        await daemon.ended(record)
        assert b"jobs" not in daemon.output(record)
        assert b"control" not in daemon.output(record)


@with_daemon(owner_jobs=3)
async def test_an_owner_has_so_many_unfinished_jobs(daemon: Daemon) -> None:
    tried = [daemon.submit("sleep 1000", NOBODY) for _ in range(10)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 7
    assert {type(error) for error in refused} == {QuotaExceeded}
    await daemon.running(GOES_ON, BIN)
    for _ in range(4):
        await daemon.running(GOES_ON, ROOT)
    (one, *_) = [answer for answer in answers if not isinstance(answer, BaseException)]
    await daemon.engine.kill(one)
    await daemon.ended(one)
    await daemon.running(GOES_ON, NOBODY)


@with_daemon(owner_bytes="100K")
async def test_and_so_much_output(daemon: Daemon) -> None:
    """Also of jobs that write at the same time: what one may write is set aside for it."""
    floods = "trap 'head -c 200000 /dev/zero; exit 0' TERM; echo; while :; do sleep 0.05; done"
    jobs = [await daemon.running(floods, NOBODY, output_max="60K")]
    with pytest.raises(QuotaExceeded, match="60K is more than the 40K that are free of the 100K"):
        await daemon.submit("true", NOBODY, output_max="60K")
    assert len(daemon.engine.jobs) == 1
    jobs += [await daemon.running(floods, NOBODY, output_max="40K")]
    for record in jobs:
        await daemon.engine.stop(record)
        await daemon.ended(record)
    spools = [daemon.spool(record) for record in jobs]
    sizes = [[(spool / name).stat().st_size for name in STREAMS] for spool in spools]
    assert [sum(each) for each in sizes] == [60 << 10, 40 << 10]
    with pytest.raises(QuotaExceeded, match="and 102400 is the most"):
        await daemon.submit("true", NOBODY)
    assert (await daemon.run("true", BIN)).state == "completed"
    await daemon.reopen()
    with pytest.raises(QuotaExceeded):
        await daemon.submit("true", NOBODY)
    await daemon.engine.prune(NOBODY, PruneRequest())
    assert (await daemon.run("true", NOBODY)).state == "completed"


@with_daemon()
async def test_what_root_alone_is_told(daemon: Daemon) -> None:
    """Where a program lies on the host is nobody else's business."""
    status = await daemon.run("exec /no/such/program", NOBODY)
    assert message(status) == "exited with code 127"
