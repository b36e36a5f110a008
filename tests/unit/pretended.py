"""A daemon whose jobs only pretend: the real server on a real socket, an engine made by hand at the
seam. A pretended job starts at once, writes what a test writes for it, and ends when told to."""

from __future__ import annotations

import asyncio
import functools
import http.client
import inspect
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from jobsup.supervisor.daemon.api.server import Server
from jobsup.supervisor.daemon.api.spool import ENTRY
from jobsup.supervisor.daemon.events import EventBus
from jobsup.supervisor.daemon.finding import sees
from jobsup.supervisor.daemon.job import LiveJob
from jobsup.supervisor.daemon.launcher import Attached
from jobsup.supervisor.daemon.paths import Paths
from jobsup.supervisor.daemon.peer import Peer
from jobsup.supervisor.daemon.records import Record
from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.daemon.state import ENDED, State
from jobsup.supervisor.daemon.views import SpoolView, summary
from jobsup.supervisor.errors import Ambiguous, NoSuchJob, NotReady, WrongState
from jobsup.supervisor.protocol import STREAMS, JobPage, JobStatus, PruneRequest, Started
from jobsup.supervisor.request import Request

T = TypeVar("T")


@dataclass
class Pretended:
    """A job. Its methods are for the loop's thread, but for those that write."""

    record: Record
    directory: Path
    attached: Attached | None = None
    stdin: bytes | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sizes: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})

    def begin(self) -> None:
        self.directory.mkdir(parents=True)
        for name in ("output.index", *STREAMS):
            (self.directory / name).touch()

    def write(self, name: str, data: bytes, *, told: bool = True) -> None:
        """As an init does: bytes first, then the entry."""
        with (self.directory / name).open("ab") as file:
            file.write(data)
        if told:
            entry = ENTRY.pack(STREAMS[name], len(data), self.sizes[name], time.time_ns())
            with (self.directory / "output.index").open("ab") as file:
                file.write(entry)
        self.sizes[name] += len(data)

    def move(self, state: State) -> None:
        self.record.state = state
        if state in ENDED:
            self.record.ended_ns = time.time_ns()
            self.record.verdict = {"state": state.value, "cause": "exited", "status": 0}
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def again(self) -> None:
        """The run is over, and the job waits for another one."""
        self.record.attempt += 1
        self.record.started_ns = None
        self.directory = self.directory.with_name(str(self.record.attempt))
        self.sizes = dict.fromkeys(self.sizes, 0)
        self.move(State.QUEUED)

    @property
    def unended(self) -> bool:
        return self.record.state not in ENDED

    @property
    def gone(self) -> bool:
        return not self.unended

    async def wait_change(self) -> None:
        await self.changed.wait()


class PretendedStore:
    commits = 7


def _refusable(cls: type[T]) -> type[T]:
    """Each coroutine of the class, and `spool`, raises `refuse_everything` first."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def asked(self: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
            if self.refuse_everything is not None:
                raise self.refuse_everything
            return await original(self, *args, **options)

        return asked

    for name, member in list(vars(cls).items()):
        if inspect.iscoroutinefunction(member):
            setattr(cls, name, wrapped(member))
    return cls


class PretendedUpload:
    """There is room for everything."""

    def grow(self, count: int) -> None:
        """More is to come."""


@_refusable
class PretendedEngine:
    """Keeps jobs in a dict. `refusal` is raised by the next submission, `fault` by any status,
    `refuse_everything` by whatever is asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ready = True
        self.events = EventBus()
        self.store = PretendedStore()
        self.all: dict[str, Pretended] = {}
        self.refusal: Exception | None = None
        self.fault: Exception | None = None
        self.refuse_everything: Exception | None = None
        self.queue = False  # jobs are not begun

    @property
    def jobs(self) -> dict[str, Pretended]:
        return {key: job for key, job in self.all.items() if job.unended}

    @contextmanager
    def uploading(self, peer: Peer) -> Iterator[PretendedUpload]:
        yield PretendedUpload()

    async def set_ready(self, ready: bool) -> None:
        self.ready = ready

    async def terminate(self) -> None:
        self.ready = False
        for job in self.jobs.values():
            self._move(job, State.STOPPED)

    async def submit(
        self,
        request: Request,
        peer: Peer,
        *,
        stdin: Path | None = None,
        attached: Attached | None = None,
    ) -> Started:
        if self.refusal is not None:
            if attached is not None:
                attached.close()
            refusal, self.refusal = self.refusal, None
            raise refusal
        if not self.ready:
            raise NotReady("the daemon takes no new jobs")
        number = len(self.all)
        record = Record(
            id=f"{number:04d}job",
            seq=number + 1,
            uid=peer.uid,
            gid=peer.gid,
            groups=peer.groups,
            user=str(peer.uid),
            name=request.spec.name,
            request=request.to_plain(),
            argv=[arg.decode(errors="backslashreplace") for arg in request.spec.argv],
            state=State.QUEUED if self.queue else State.RUNNING,
            queued_ns=time.time_ns(),
            attached=attached is not None,
        )
        read = stdin.read_bytes() if stdin is not None else None  # noqa: ASYNC240
        job = Pretended(record, self.root / record.id / "1", attached, read)
        if not self.queue:
            job.begin()
        self.all[record.id] = job
        self.events.publish(record, time.time_ns())
        return Started(record.id, record.state.value)

    def _move(self, job: Pretended, state: State) -> None:
        job.move(state)
        self.events.publish(job.record, time.time_ns())

    async def find(self, ref: str, peer: Peer) -> Record:
        own = [j.record for j in self.all.values() if sees(peer) in (None, j.record.uid)]
        found = [r for r in own if r.id.startswith(ref) or r.name == ref]
        if not found:
            raise NoSuchJob(f"there is no job {ref!r}")
        if len(found) > 1:
            raise Ambiguous("several")
        return found[0]

    async def page(
        self,
        peer: Peer,
        *,
        state: str | None = None,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> JobPage:
        own = [j.record for j in self.all.values() if sees(peer) in (None, j.record.uid)]
        shown = [r for r in reversed(own) if state in (None, r.state.value)]
        return JobPage([summary(record) for record in shown[:limit]], None)

    async def status(self, record: Record) -> JobStatus:
        if self.fault is not None:
            raise self.fault
        short = summary(record)
        return JobStatus(
            **{name: getattr(short, name) for name in short.__struct_fields__[:9]},
            due_at=None,
            reason=record.reason,
            request=record.request,
            limits=record.limits,
            current=None,
            output={"stdout_bytes": 0, "stderr_bytes": 0},
            attempts=[],
            verdict=record.verdict,
        )

    async def wait(self, record: Record, timeout: float | None = None) -> JobStatus:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                while self.all[record.id].unended:
                    await self.all[record.id].wait_change()
        except TimeoutError:
            pass
        return await self.status(record)

    def _live(self, record: Record) -> Pretended:
        if record.state in ENDED:
            raise WrongState(f"job {record.id} has ended")
        return self.all[record.id]

    async def stop(
        self, record: Record, signal_number: int | None = None, grace_ms: int | None = None
    ) -> None:
        self._move(self._live(record), State.STOPPED)

    async def kill(self, record: Record) -> None:
        self._move(self._live(record), State.STOPPED)

    async def signal(self, record: Record, number: int) -> None:
        self._live(record)

    async def pause(self, record: Record) -> None:
        self._move(self._live(record), State.PAUSED)

    async def resume(self, record: Record) -> None:
        self._move(self._live(record), State.RUNNING)

    async def change(self, record: Record, options: dict[str, Any]) -> JobStatus:
        Request.from_plain({"argv": ["x"], **options})
        self._live(record).record.limits = {"memory.max": "max"}
        return await self.status(record)

    async def remove(self, record: Record, *, force: bool = False) -> None:
        if record.state not in ENDED and not force:
            raise WrongState(f"job {record.id} runs")
        self.all[record.id].move(State.STOPPED)
        del self.all[record.id]

    async def prune(self, peer: Peer, asked: PruneRequest) -> list[str]:
        return []

    def spool(self, record: Record, attempt: int | None = None) -> SpoolView:
        job = cast(LiveJob | None, self.jobs.get(record.id))
        paths = Paths(self.root.parent, self.root.parent)
        return SpoolView(paths, record, attempt or record.attempt, job)


class Answer:
    """What came back, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        return str(self.json["error"]["code"])


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket; its answers' ends are seen, and their lack."""

    def __init__(self, path: Path) -> None:
        super().__init__("jobsup", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


class Daemon:
    """The server with its pretended engine, in a thread of its own."""

    def __init__(self, root: Path, **settings: Any) -> None:  # noqa: ANN401
        self.settings = Settings(lib=root / "lib", run=root, socket=root / "s", **settings)
        (self.settings.lib / "incoming").mkdir(parents=True)
        self.path = self.settings.socket
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.started: Future[None] = Future()
        self.engine = PretendedEngine(root / "jobs")
        self.unexpected: list[dict[str, Any]] = []

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda _, context: self.unexpected.append(context))
        self.loop.run_until_complete(self._open())
        self.started.set_result(None)
        self.loop.run_forever()
        self.loop.close()

    async def _open(self) -> None:
        self.server = Server(self.engine, self.settings)
        self.server.listen(self.path)

    def __enter__(self) -> Daemon:
        self.thread.start()
        self.started.result(20)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.loop.is_closed():
            self.close()
        assert self.unexpected == []

    def close(self) -> None:
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def do(self, call: Callable[[], T]) -> T:
        """Call it in the loop's thread."""

        async def called() -> T:
            return call()

        return self.run(called())

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it holds, as seen by the loop."""
        deadline = time.monotonic() + 20
        while not self.do(true):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    # ---- jobs

    def start(self, *argv: str, **options: Any) -> Pretended:  # noqa: ANN401
        answer = self.call("POST", "/jobs/run", {"argv": list(argv or ("x",)), **options})
        assert answer.status == 201, answer.body
        return self.engine.all[answer.json["id"]]

    def end(self, job: Pretended, state: State = State.COMPLETED) -> None:
        self.do(lambda: self.engine._move(job, state))

    # ---- requests

    def connect(self) -> UnixConnection:
        return UnixConnection(self.path)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        **headers: str,
    ) -> Answer:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, raw, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    @contextmanager
    def following(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect()
        try:
            connection.request("GET", path)
            yield connection.getresponse()
        finally:
            connection.close()

    @contextmanager
    def raw(self, data: bytes = b"") -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.path))
            client.sendall(data)
            yield client


def everything(client: socket.socket) -> bytes:
    """Until the other end closes."""
    parts = []
    try:
        while data := client.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        pass  # it closed without reading all that was sent
    return b"".join(parts)


__all__ = ["Answer", "Daemon", "Pretended", "everything"]
