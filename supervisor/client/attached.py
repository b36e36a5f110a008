"""`jobsup run` through the daemon: the daemon's job on this process's own streams.

    we                                       daemon                    init of the job
    POST /jobs/run, Upgrade: jobsup-run ──▶
                                        ◀── 101
    one byte and the descriptors        ──▶  launch ─────────────────▶ stdin, stdout, stderr
                                        ◀── Started, or an error       lifeline
    GET /jobs/ID/wait                   ──▶
                                        ◀── status, at the end

Output goes from the init to our stdout and stderr; the daemon never sees it. The init is root, and
writes nothing but pipes for who is not: what they get is copied here. The lifeline is a pipe
whose other end is ours: when we are gone, however that came, the init ends the job, daemon or not.
A daemon that is restarted meanwhile is waited for.
"""

from __future__ import annotations

import array
import math
import os
import select
import signal
import socket as sockets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from ..conversation import Alarm, Party, Relay
from ..errors import JobsupError, NoSuchJob, WrongState
from ..foreground import caught_signals
from ..protocol import UPGRADE, ErrorBody, JobStatus, Started
from ..wiring import Wiring, is_open
from . import follow
from .asked import submission, verdict_at_end
from .blocking import Job, Line, Supervisor, connected
from .errors import Disconnected, NoDaemon, error_of
from .flow import (
    Call,
    Connect,
    Drop,
    Flow,
    Pause,
    Receive,
    Release,
    Response,
    Send,
    decoded,
    refusal,
)

if TYPE_CHECKING:
    from ..verdict import Verdict

_QUIET = 3.0  # seconds without a daemon that nobody is told of: it is being restarted
# What ends a program that says nothing about it. They end the job also where no daemon answers.
_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})


def run_attached(
    supervisor: Supervisor, argv: Sequence[Any], options: Mapping[str, Any], *, stdin: bool = True
) -> Verdict:
    """Run the job to its end, with our own streams and signals; without `stdin` it reads nothing
    and ours is left alone.

    Raises:
        JobsupError: it could not be started, or how it ended cannot be learnt.
        KeyboardInterrupt: a signal came before it was started.
    """
    call = submission(argv, options)
    own = [is_open(number) for number in range(3)]
    with ExitStack() as stack:
        wakeup = stack.enter_context(caught_signals())
        wiring = Wiring(stack)
        streams = _own_streams(wiring, own, stdin) if os.geteuid() == 0 else None
        relays: list[Relay] = []
        if streams is None:
            streams, relays = _pipes(wiring, own, stdin)
        lifeline, ours = os.pipe()
        wiring.theirs(lifeline)
        rope = _Rope(ours)
        stack.callback(rope.cut)
        started = _Handing(supervisor.socket, wakeup).hand(call, (*streams, lifeline))
        wiring.close_theirs()
        passing = _Passing(Job(supervisor, started), rope)
        with _Waiting(supervisor, started.id, rope) as waiting:
            _serve(waiting, [Alarm(wakeup, passing), *wiring.parties])
            for relay in relays:
                relay.finish()
            return verdict_at_end(waiting.status)


def _own_streams(wiring: Wiring, own: Sequence[bool], stdin: bool) -> tuple[int, int, int]:
    """What root's init reads and writes by itself."""
    feed = wiring.feed(0) if stdin and own[0] else wiring.nothing()
    out, err = (number if own[number] else wiring.nowhere() for number in (1, 2))
    return feed, out, err


def _pipes(
    wiring: Wiring, own: Sequence[bool], stdin: bool
) -> tuple[tuple[int, int, int], list[Relay]]:
    """Pipes, whose other ends are ours."""
    feed = wiring.feed(0 if stdin and own[0] else b"")
    ends, relays = [], []
    for number in (1, 2):
        end, relay = wiring.relay(number if own[number] else None)
        ends.append(end)
        relays.append(relay)
    return (feed, ends[0], ends[1]), relays


class _Rope:
    """Our end of the lifeline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def held(self) -> bool:
        """Whether the init is still there: a pipe that nobody reads has an error (poll(2))."""
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return not poll.poll(0)

    def cut(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class _Handing:
    """The one connection on which a job and its descriptors are handed over."""

    def __init__(self, path: str, wakeup: int) -> None:
        self._connection = connected(path)
        self._wakeup = wakeup

    def hand(self, call: Call[Started], descriptors: Sequence[int]) -> Started:
        with self._connection:
            left = self._upgraded(call)
            rights = array.array("i", descriptors)
            try:
                self._connection.sendmsg(
                    [b"\0"], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, rights.tobytes())]
                )
                answer = left + self._rest()
            except ConnectionError as error:
                raise _unknown() from error
        if not answer.endswith(b"\n"):
            raise _unknown()
        told = decoded(lambda body: msgspec.json.decode(body, type=dict[str, Any]), answer)
        if "error" in told:
            raise error_of(msgspec.convert(told, ErrorBody).error)
        return decoded(lambda body: msgspec.json.decode(body, type=Started), answer)

    def _upgraded(self, call: Call[Started]) -> bytes:
        """Returns what came behind the answer."""
        response = Response()
        flow = self._asking(response, call)
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                result: bytes = end.value
                return result
            answer = None
            match step:
                case Send(data):
                    self._connection.sendall(data)
                case Receive():
                    answer = self._receive()

    @staticmethod
    def _asking(response: Response, call: Call[Started]) -> Flow[bytes]:
        yield from response.send(call, ("connection", "upgrade"), ("upgrade", UPGRADE))
        yield from response.head()
        if response.status != 101:
            raise refusal(response.status, (yield from response.rest()))
        return response.leftover

    def _rest(self) -> bytes:
        parts = []
        while data := self._receive():
            parts.append(data)
        return b"".join(parts)

    def _receive(self) -> bytes:
        """What comes; a signal that asks us to end is obeyed meanwhile."""
        poll = select.poll()
        for descriptor in (self._connection.fileno(), self._wakeup):
            poll.register(descriptor, select.POLLIN)
        while self._connection.fileno() not in (ready := dict(poll.poll())):
            if self._wakeup in ready and _ENDING & set(os.read(self._wakeup, 4096)):
                raise KeyboardInterrupt
        return self._connection.recv(1 << 16)


def _unknown() -> Disconnected:
    return Disconnected("the daemon went away before it said whether the job was started")


class _Passing:
    """Passes signals on; a second interrupt means that the first was not obeyed."""

    def __init__(self, job: Job, rope: _Rope) -> None:
        self._job = job
        self._rope = rope
        self._interrupts = 0

    def __call__(self, number: int) -> None:
        self._interrupts += number == signal.SIGINT
        try:
            self._pass(number)
        except NoSuchJob:
            pass  # it has ended and is forgotten; the wait says so
        except (NoDaemon, Disconnected):
            self._without_daemon(number)

    def _pass(self, number: int) -> None:
        try:
            if self._interrupts > 1:
                self._job.kill()
            else:
                self._job.signal(number)
        except WrongState:
            # It is queued, and leaves the queue; or it has ended meanwhile.
            if number in _ENDING:
                with suppress(WrongState):
                    self._job.stop()

    def _without_daemon(self, number: int) -> None:
        if number == signal.SIGINT and self._interrupts == 1:
            sys.stderr.write("jobsup: no daemon answers; another interrupt kills the job\n")
        elif number in _ENDING:
            self._rope.cut()
            message = f"no daemon answers; job {self._job.id} is killed if it has not ended"
            raise JobsupError(message, hint=f"jobsup status {self._job.id}, once there is one")


class _Waiting:
    """The wait for the end as something to poll: one connection, or a pause between two."""

    def __init__(self, supervisor: Supervisor, ref: str, rope: _Rope) -> None:
        self._rope = rope
        self._away: float | None = None  # since when no daemon answers; inf: that was told
        self._line = Line(supervisor)
        self._flow: Flow[JobStatus] = follow.waited(ref, patience=math.inf, answered=True)
        self._again: float | None = None
        self._status: JobStatus | None = None
        self._go_on(None)

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._flow.close()
        self._line.drop()

    @property
    def over(self) -> bool:
        return self._status is not None

    @property
    def status(self) -> JobStatus:
        assert self._status is not None, "asked before it is over"
        return self._status

    def interests(self) -> dict[int, int]:
        """Which descriptors to poll, and for what."""
        return {} if self._again is not None else {self._line.connection.fileno(): select.POLLIN}

    def patience_ms(self) -> int | None:
        """How long to poll at most."""
        if self._again is None:
            return None
        return max(math.ceil((self._again - time.monotonic()) * 1000), 0)

    def handle(self, ready: dict[int, int]) -> None:
        """Act on what poll said, or on the time that has gone by."""
        if self._again is not None:
            if time.monotonic() >= self._again:
                self._again = None
                self._go_on(None)
        elif ready.get(self._line.connection.fileno()):
            try:
                data = self._line.do(Receive())
            except OSError as error:
                self._go_on(None, error)
            else:
                self._go_on(data)

    def _go_on(self, answer: object, failed: Exception | None = None) -> None:
        """Take the flow to where it waits for something."""
        while True:
            try:
                step = self._flow.send(answer) if failed is None else self._flow.throw(failed)
            except StopIteration as end:
                self._status = end.value
                return
            answer = failed = None
            match step:
                case Receive():
                    self._away = None
                    return
                case Pause(seconds):
                    self._again = time.monotonic() + seconds
                    self._tell_away()
                    return
                case Connect() | Send() | Release() | Drop():
                    try:
                        answer = self._line.do(step)
                    except (OSError, NoDaemon) as error:
                        failed = error

    def _tell_away(self) -> None:
        if self._away is None:
            self._away = time.monotonic()
        elif time.monotonic() > self._away + _QUIET:
            self._away = math.inf
            now = "goes on" if self._rope.held else "has ended"
            sys.stderr.write(f"jobsup: no daemon answers, and one is waited for; the job {now}\n")


def _serve(waiting: _Waiting, parties: Sequence[Party]) -> None:
    """Serve every party until the wait is over."""
    while not waiting.over:
        interests = waiting.interests()
        for party in parties:
            interests.update(party.interests())
        poll = select.poll()
        for descriptor, events in interests.items():
            poll.register(descriptor, events)
        ready = dict(poll.poll(waiting.patience_ms()))
        for party in parties:
            party.handle(ready)
        waiting.handle(ready)
