"""One job between its init and its crew, both made up, where the real ones cannot be made to fail:
an end that cannot be found out, a disk without room, a stop in the middle of a launch."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from jobsup.isolation import EndedBy, ExitRecord, Job, LaunchFailed, Status, Walls
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.state import State
from jobsup.supervisor.errors import StorageFull, WrongState
from jobsup.supervisor.request import Request
from jobsup.supervisor.verdict import Verdict

T = TypeVar("T")
TERM = (int(signal.SIGTERM), 10_000)
KILL = (int(signal.SIGKILL), 0)
HOUR = 3_600_000


class Init:
    """Stands for a Job: says what it is given to say, and remembers what it was told."""

    adopted = True  # so that the walls are asked for

    def __init__(self, *, failures: int = 0) -> None:
        self.limits = {"pids.max": "64"}
        self.failures = failures
        self.told: list[object] = []
        self._says: list[Status | None] = []
        self._ours, self._theirs = socket.socketpair()

    def say(self, *messages: Status | None) -> None:
        """None is the end."""
        self._says += messages
        self._theirs.send(b"." * len(messages))

    def fileno(self) -> int:
        return self._ours.fileno()

    def receive(self) -> Status | None:
        self._ours.recv(1)
        return self._says.pop(0)

    def stop(self, number: int, grace_ms: int) -> None:
        self.told.append((number, grace_ms))

    def signal(self, number: int) -> None:
        self.told.append(number)

    def kill(self) -> None:
        self.told.append("kill")

    def pause(self) -> None:
        self.told.append("pause")

    def conclude(self, _walls: Walls | None) -> ExitRecord | None:
        self._ours.close()
        self._theirs.close()
        if self.failures:
            self.failures -= 1
            raise LaunchFailed("a process sleeps in the kernel")
        return None


class Crew:
    """Stands for the dispatcher."""

    def __init__(self) -> None:
        self.saved: list[tuple[State, str | None]] = []
        self.failures: list[BaseException] = []
        self.ends: list[Verdict] = []
        self.full = False
        self.closing = False
        self.pauses: list[float] = []
        self.next_init: Init | None = None

    async def _save(self, state: State, reason: str | None) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise StorageFull("no room")
        self.saved.append((state, reason))

    def save(self, record: Record, *, soon: bool = False) -> Awaitable[None]:
        return asyncio.ensure_future(self._save(record.state, record.reason))

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, call)

    async def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        return not self.closing

    def walls(self, _record: Record, _request: Request) -> Walls:
        raise LaunchFailed("no such user")

    def reach(self, _record: Record) -> Job:
        assert self.next_init is not None
        return cast(Job, self.next_init)

    def failed(self, _job: LiveJob, error: BaseException) -> None:
        self.failures.append(error)

    async def run_ended(self, job: LiveJob, verdict: Verdict) -> None:
        self.ends.append(verdict)
        job.move_to_rest(State(verdict.state), verdict.message)


def run(body: Callable[[LiveJob, Crew], Awaitable[None]], **fields: Any) -> None:  # noqa: ANN401
    async def main() -> None:
        record = Record(id="j", uid=0, gid=0, queued_ns=1, **{"state": State.STARTING, **fields})
        crew = Crew()
        async with asyncio.timeout(60):
            await body(LiveJob(record, Request.make(["true"], cwd="/"), crew), crew)

    asyncio.run(main())


def follow(job: LiveJob, init: Init, *, adopted: bool = False) -> None:
    job.follow(cast(Job, init), adopted=adopted)


async def until(job: LiveJob, state: State) -> None:
    while job.record.state is not state:
        await job.wait_change()


RUNS, FROZEN = Status(5, False, EndedBy.NOTHING), Status(5, True, EndedBy.NOTHING)


@pytest.mark.parametrize("times", [1, 8])
def test_an_end_that_cannot_be_found_out_is_looked_for_again(times: int) -> None:
    async def body(job: LiveJob, crew: Crew) -> None:
        init = crew.next_init = Init(failures=times)
        follow(job, init)
        init.say(RUNS, None)
        while not crew.pauses:
            await job.wait_change()
        assert job.unended
        assert job.record.reason == "its end is not known yet: a process sleeps in the kernel"
        await until(job, State.LOST)
        assert crew.pauses == [1, 2, 4, 8, 16, 32, 60, 60][:times]
        assert len(crew.failures) == times
        assert job.concluding is None

    run(body)


def test_and_not_when_the_daemon_goes() -> None:
    async def body(job: LiveJob, crew: Crew) -> None:
        init, crew.closing = Init(failures=1), True
        follow(job, init)
        init.say(RUNS, None)
        while job.concluding is None:
            await job.wait_change()
        await job.concluding
        assert crew.ends == []
        assert job.unended

    run(body)


def test_a_stop_reaches_its_job_when_there_is_no_room_to_keep_it() -> None:
    async def body(job: LiveJob, crew: Crew) -> None:
        init, crew.full = Init(), True
        follow(job, init)
        await job.stop(*TERM)
        assert init.told == [TERM]
        assert job.record.state is State.STOPPING
        assert [type(error) for error in crew.failures] == [StorageFull]
        init.say(None)
        await until(job, State.LOST)

    run(body)


def test_a_stop_during_a_launch_is_sent_once() -> None:
    async def body(job: LiveJob, crew: Crew) -> None:
        stopping = asyncio.create_task(job.stop(*TERM))
        await asyncio.sleep(0)
        assert job.record.state is State.STOPPING
        init = Init()
        follow(job, init)  # before the stop is durable
        await stopping
        assert init.told == [TERM]
        assert crew.saved == [(State.STOPPING, "stopped on request")]
        await job.stop(*TERM)  # who asks again means it
        await job.stop(*KILL)
        assert init.told == [TERM, signal.SIGTERM, "kill"]
        init.say(RUNS, None)
        await until(job, State.LOST)

    run(body)


def test_a_kill_is_not_taken_back_by_a_stop() -> None:
    async def body(job: LiveJob, crew: Crew) -> None:
        init = Init()
        follow(job, init)
        asked = [asyncio.create_task(job.stop(*stop)) for stop in (KILL, (signal.SIGTERM, HOUR))]
        await asyncio.gather(*asked)
        await job.stop(signal.SIGTERM, HOUR)
        assert init.told == ["kill"]
        assert job.record.stop == KILL
        init.say(None)
        await until(job, State.LOST)

    run(body)


def test_nor_while_the_launch_is_on_its_way() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        await job.stop(*KILL)
        await job.stop(signal.SIGTERM, HOUR)
        init = Init()
        follow(job, init)
        assert init.told == ["kill"]
        init.say(None)
        await until(job, State.LOST)

    run(body)


def test_a_second_stop_shortens_the_grace_and_never_lengthens_it() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        follow(job, init)
        for grace_ms in (HOUR, HOUR // 2, HOUR, HOUR // 2, 0, HOUR):
            await job.stop(signal.SIGINT, grace_ms)
        number = signal.SIGINT
        assert init.told == [(number, HOUR), (number, HOUR // 2), number, number, (number, 0)]
        init.say(None)
        await until(job, State.LOST)

    run(body)


def test_of_two_stops_during_a_launch_the_shorter_grace_holds() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        await job.stop(*TERM)
        await job.stop(signal.SIGINT, HOUR)
        init = Init()
        follow(job, init)
        assert init.told == [(signal.SIGINT, TERM[1])]
        init.say(None)
        await until(job, State.LOST)

    run(body)


@pytest.mark.parametrize("ending", [EndedBy.STOP, EndedBy.WALL_TIME])
def test_nor_does_a_stop_lengthen_a_grace_that_this_daemon_did_not_ask_for(
    ending: EndedBy,
) -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        follow(job, init, adopted=True)
        init.say(Status(5, False, ending))
        await until(job, State.RUNNING)
        await job.stop(signal.SIGTERM, HOUR)
        assert init.told == [signal.SIGTERM]
        init.say(None)
        await until(job, State.LOST)

    run(body, stop=TERM if ending is EndedBy.STOP else None)


def test_an_adopted_init_that_was_stopped_is_told_of_a_kill() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        follow(job, init, adopted=True)
        init.say(Status(5, False, EndedBy.STOP), None)
        await until(job, State.LOST)
        assert init.told == ["kill"]

    run(body, state=State.STOPPING, stop=KILL)


@pytest.mark.parametrize("ending", [EndedBy.NOTHING, EndedBy.STOP])
def test_an_adopted_init_is_told_of_a_stop_unless_it_knows(ending: EndedBy) -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        follow(job, init, adopted=True)
        assert init.told == []
        init.say(Status(5, False, ending), Status(5, False, EndedBy.STOP), None)
        await until(job, State.LOST)
        assert init.told == ([TERM] if ending is EndedBy.NOTHING else [])

    run(body, state=State.STOPPING, stop=TERM)


def test_what_waits_for_a_frozen_job_does_not_wait_for_one_that_is_stopped() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        follow(job, init)
        pausing = asyncio.create_task(job.pause())  # it is not even executed
        await asyncio.sleep(0)
        assert init.told == []
        init.say(RUNS)
        await until(job, State.RUNNING)
        await asyncio.sleep(0)
        await job.stop(*TERM)
        assert init.told == ["pause", TERM]
        with pytest.raises(WrongState, match="job j is stopping"):
            await pausing
        init.say(FROZEN, RUNS, None)  # what it says of that is no news
        await until(job, State.LOST)

    run(body)


def test_output_may_come_until_the_end() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        init = Init()
        assert not job.gone
        follow(job, init)
        init.say(RUNS)
        await until(job, State.RUNNING)
        assert not job.gone
        init.say(None)
        await until(job, State.LOST)
        assert job.gone

    run(body)


def test_a_job_that_never_was_has_no_output_to_come() -> None:
    async def body(job: LiveJob, _crew: Crew) -> None:
        job.move_to_rest(State.FAILED, "refused")
        assert job.gone
        for verb in (job.pause, job.resume):
            with pytest.raises(WrongState, match="job j is failed"):
                await verb()

    run(body)
