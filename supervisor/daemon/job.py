"""One unfinished job: its record, its init, and the moves between its states.

What drives it are events of the init's socket: a status (executed, paused, being ended), and EOF,
after which the end is looked for and judged. The same path serves a job that this daemon started
and one that it adopted, so nothing here knows which of the two it is.

Everything runs on the event loop; what blocks goes to a thread of the crew's.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from jobsup.isolation import (
    EndedBy,
    Job,
    JobsupError,
    LaunchFailed,
    Limits,
    Status,
    Walls,
    reached,
)

from ..errors import StorageFull, WrongState
from ..request import Request
from ..verdict import Verdict, judge
from .launcher import Attached
from .records import Record
from .state import ENDED, State, move

T = TypeVar("T")

_FREEZE_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two looks for an end
_KILL = (int(signal.SIGKILL), 0)
_GOES_ON = frozenset({State.RUNNING, State.PAUSED})


class Crew(Protocol):
    """What the jobs of one daemon share."""

    def save(self, record: Record, *, soon: bool = False) -> Awaitable[None]:
        """Make the record durable, as it is now, and tell who listens; `soon` where nobody waits
        for it to be durable."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks beside the loop."""

    async def pause(self, seconds: float) -> bool:
        """Let time pass; False at once when the daemon goes."""

    def walls(self, record: Record, request: Request) -> Walls: ...

    def reach(self, record: Record) -> Job:
        """A new handle of a run whose handle was used up. Blocks."""

    def failed(self, job: LiveJob, error: BaseException) -> None:
        """Something went wrong that has nobody to be raised to."""

    async def run_ended(self, job: LiveJob, verdict: Verdict) -> None:
        """A run is over: the job has ended, or is to be started again."""


def _joined(earlier: tuple[int, int] | None, later: tuple[int, int]) -> tuple[int, int]:
    """What two requests to stop come to."""
    if earlier is None or later == _KILL:
        return later
    if earlier[1] == 0:  # nothing is sooner
        return earlier
    return later[0], min(earlier[1], later[1])


def _weight(request: Request) -> int:
    """About as many bytes as the request keeps in memory."""
    pairs = [*request.environment.items(), *request.spec.env]
    variables = sum(len(name) + len(value or b"") for name, value in pairs)
    return variables + sum(map(len, request.spec.argv))


class LiveJob:
    """A job that has not ended. `changed` wakes who waits for another state."""

    def __init__(self, record: Record, request: Request, crew: Crew) -> None:
        self.record = record
        self.request = request
        self.pauses = 0  # restarts in a row
        self.weight = _weight(request)
        self._crew = crew
        self._handle: Job | None = None
        self.attached: Attached | None = None  # while it is queued
        self.prepared: tuple[Walls, Limits] | None = None  # until it is launched, if that is now
        self.unsaved = False  # there was no room to keep what it is now
        self.gone = False  # the init of this attempt has ended: no output will come any more
        self.host_lost = False  # its run began in another boot
        self.concluding: asyncio.Task[None] | None = None
        self.changing = asyncio.Lock()  # of its limits: one after the other
        self._resend_stop = False
        self._sent: tuple[int, int] | None = None  # the stop that this init was told
        self._kill_at: float | None = None  # by the loop's clock, at the latest, the init kills it
        self._loop = asyncio.get_running_loop()
        self._changed = self._loop.create_future()

    @property
    def handle(self) -> Job | None:
        """The init, while there is one."""
        return self._handle

    def move(
        self, state: State, reason: str | None = None, *, soon: bool = False
    ) -> Awaitable[None]:
        """Take the job to another state; the awaitable resolves when that is durable.

        Raises:
            IllegalMove: it cannot go there from where it is; nothing has changed.
        """
        self.record.state = move(self.record.state, state)
        self.record.reason = reason
        saved = self._crew.save(self.record, soon=soon)
        self.wake()
        return saved

    def move_to_rest(self, state: State, reason: str) -> None:
        """Take the job to a state in which it has ended; keeping that is the crew's."""
        self.record.state = move(self.record.state, state)
        self.record.reason = reason
        self.gone = True
        self.wake()

    @property
    def unended(self) -> bool:
        return self.record.state not in ENDED

    def take_attached(self) -> Attached | None:
        """The descriptors of its caller, which are the taker's from now on."""
        attached, self.attached = self.attached, None
        return attached

    def take_prepared(self) -> tuple[Walls, Limits] | None:
        """What was made of its spec when it was checked, for the launch that follows at once."""
        prepared, self.prepared = self.prepared, None
        return prepared

    def drop_attached(self) -> None:
        """It will not be launched: its caller's descriptors are not needed."""
        if (attached := self.take_attached()) is not None:
            attached.close()

    def wake(self) -> None:
        """Let who waits for the job look again."""
        self._changed.set_result(None)
        self._changed = self._loop.create_future()

    async def wait_change(self) -> None:
        """Until its state or record changes once more."""
        await asyncio.shield(self._changed)

    # ---- from the init

    def follow(self, handle: Job, *, adopted: bool = False) -> None:
        """Serve this init from now on."""
        self._handle = handle
        self._sent = self._kill_at = None
        self.gone = False
        self._resend_stop = adopted and self.record.stop is not None
        if not adopted:
            self.host_lost = False  # this run is of this boot
            self.record.limits = dict(handle.limits)
        if handle.fileno() < 0:
            self._begin_conclusion()
            return
        self._loop.add_reader(handle.fileno(), self._on_message)
        if self.record.stop is not None and not adopted:
            self._send_stop()  # it was asked for while the launch was on its way

    def _on_message(self) -> None:
        assert self._handle is not None
        try:
            message = self._handle.receive()
        except (OSError, LaunchFailed) as error:
            self._crew.failed(self, error)
            message = None
        if message is None:
            self._loop.remove_reader(self._handle.fileno())
            reached("end-seen")
            self._begin_conclusion()
        elif isinstance(message, Status):
            self._on_status(message)

    def _on_status(self, status: Status) -> None:
        record = self.record
        if status.started_ns and record.started_ns is None:
            record.started_ns = status.started_ns
        if status.started_ns and record.state is State.STARTING:
            self._move_unasked(State.RUNNING)
            reached("executed")
        if status.paused and record.state is State.RUNNING:
            self._move_unasked(State.PAUSED, "paused on request")
        elif not status.paused and record.state is State.PAUSED:
            self._move_unasked(State.RUNNING)
        self._note_grace(status.ending)
        if self._resend_stop:
            # The request was durable; whether it reached the init, only the init knows, and of a
            # kill after a stop not even that.
            self._resend_stop = False
            if status.ending is EndedBy.NOTHING or record.stop == _KILL:
                self._send_stop()

    def _note_grace(self, ending: EndedBy) -> None:
        """Of a grace that began by itself, or that another daemon asked for."""
        if self._kill_at is not None or ending not in (EndedBy.STOP, EndedBy.WALL_TIME):
            return
        stop = self.record.stop if ending is EndedBy.STOP else None
        grace_ms = self.request.spec.grace // 1000 if stop is None else stop[1]
        self._kill_at = self._loop.time() + grace_ms / 1000

    def _move_unasked(self, state: State, reason: str | None = None) -> None:
        """Nobody was promised anything: what the record lacks after a crash, the init tells."""
        future = asyncio.ensure_future(self.move(state, reason, soon=True))
        future.add_done_callback(self._saved)

    def _saved(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._crew.failed(self, error)

    # ---- its end

    def _begin_conclusion(self) -> None:
        self.gone = True
        self.concluding = self._loop.create_task(self._conclude())
        self.wake()

    async def _conclude(self) -> None:
        try:
            if (verdict := await self._found_verdict()) is not None:
                await self._crew.run_ended(self, verdict)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            self._crew.failed(self, error)
        finally:
            self.concluding = None

    async def _found_verdict(self) -> Verdict | None:
        """How the run ended, as soon as nothing is left of it; None: not before the daemon goes.

        A process that sleeps in the kernel cannot be killed, and a host may be short of descriptors
        or memory: what could not be done now is tried again, and the job has not ended meanwhile.
        """
        handle, self._handle = self._handle, None
        seconds = _FIRST_PAUSE
        while True:
            try:
                return await self._crew.in_thread(partial(self._judged, handle))
            except Exception as error:  # noqa: BLE001 - of any kind: the job must not be forgotten
                self._crew.failed(self, error)
                self.record.reason = f"its end is not known yet: {error}"
                self.wake()
            if not await self._crew.pause(seconds):
                return None
            handle, seconds = None, min(2 * seconds, _LONGEST_PAUSE)

    def _judged(self, handle: Job | None) -> Verdict:
        """In a thread: see that nothing is left of the job, and judge how it ended."""
        record, request = self.record, self.request
        handle = handle or self._crew.reach(record)
        # Only a step that failed needs them; of a job that was launched here, its handle knows it.
        walls = self._walls() if handle.adopted else None
        ended = handle.conclude(walls)
        reached("record-read")
        if walls is None and ended is not None and ended.failure is not None:
            walls = self._walls()
        return judge(
            request.spec,
            record.id,
            ended,
            record.limits,
            user=record.user,
            # What lies where on the host is told to root alone.
            program=walls.program if walls is not None and record.uid == 0 else None,
            queued_ns=record.queued_ns,
            started_ns=record.started_ns,
            ended_ns=time.time_ns(),
            host_lost=self.host_lost,
        )

    def _walls(self) -> Walls | None:
        try:
            return self._crew.walls(self.record, self.request)
        except JobsupError:  # its user is gone by now; only the advice is the poorer for it
            return None

    # ---- what people ask of it

    async def stop(self, number: int, grace_ms: int) -> None:
        """End it: `number`, and after `grace_ms` SIGKILL; SIGKILL without grace kills at once.
        Returns when the request cannot be lost any more: it is durable, or there is no room for
        that and the init has it.

        Who asks again may shorten the grace, and never lengthen it: a longer one sends the signal
        once more, and the job is killed when it would have been. (If the daemon was restarted
        meanwhile, a grace shorter than the first counts from the request.) A kill stays a kill.
        """
        self._require(State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING)
        self.record.stop = _joined(self.record.stop, (number, grace_ms))
        killed = self.record.stop == _KILL
        reason = "killed on request" if killed else "stopped on request"
        try:
            if self.record.state is State.STOPPING:
                await self._crew.save(self.record)
            else:
                await self.move(State.STOPPING, reason)
        except StorageFull as error:
            self._crew.failed(self, error)
        reached("stop-durable")
        self._send_stop()
        reached("stop-sent")

    def _send_stop(self) -> None:
        asked = self.record.stop
        # It is being launched, or over; or follow() sent it while it was being made durable, and
        # a second SIGTERM means more to some programs than the first.
        if self._handle is None or asked is None or asked is self._sent:
            return
        self._sent = asked
        if asked == _KILL:
            self._handle.kill()
            return
        number, grace_ms = asked
        kill_at = self._loop.time() + grace_ms / 1000
        if self._kill_at is not None and self._kill_at <= kill_at:
            self._handle.signal(number)  # a stop would start the grace anew
            return
        self._kill_at = kill_at
        self._handle.stop(number, grace_ms)

    async def signal(self, number: int) -> None:
        """To the process group of its first process."""
        await self.past_start()
        self._require(State.RUNNING, State.PAUSED, State.STOPPING)
        if self._handle is not None:
            self._handle.signal(number)

    async def pause(self) -> None:
        """Freeze it; returns when it stands still.

        Raises:
            WrongState: it does not run, or ended meanwhile, or cannot be frozen.
        """
        await self.past_start()
        self._require(State.RUNNING, State.PAUSED)
        if self._handle is not None:
            self._handle.pause()
        await self._until(State.PAUSED, "its processes do not freeze: one sleeps in the kernel")

    async def resume(self) -> None:
        """Let a frozen job go on. Raises as pause does."""
        await self.past_start()
        self._require(State.RUNNING, State.PAUSED)
        if self._handle is not None:
            self._handle.resume()
        await self._until(State.RUNNING, "its processes do not thaw")

    async def past_start(self) -> None:
        """A command that is being executed is not there yet to be told anything."""
        while self.record.state is State.STARTING:
            await self.wait_change()

    async def _until(self, state: State, otherwise: str) -> None:
        try:
            async with asyncio.timeout(_FREEZE_SECONDS):
                while self.record.state is not state and self.record.state in _GOES_ON:
                    await self.wait_change()
        except TimeoutError:
            raise WrongState(f"job {self.record.id}: {otherwise}") from None
        self._require(state)

    def _require(self, *states: State) -> None:
        if self.record.state not in states:
            raise WrongState(f"job {self.record.id} is {self.record.state.value}")

    def release(self) -> None:
        """The daemon goes; the job does not."""
        if self._handle is not None and self._handle.fileno() >= 0:
            self._loop.remove_reader(self._handle.fileno())
            self._handle.detach()
