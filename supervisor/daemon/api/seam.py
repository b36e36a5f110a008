"""What the server asks of the engine, so that either can be tried without the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ...protocol import Event, JobPage, JobStatus, PruneRequest, Started
from ...request import Request
from ..launcher import Attached
from ..peer import Peer
from ..records import Record


class Events(Protocol):
    """What happens to jobs."""

    def subscribe(self, uid: int | None) -> AbstractContextManager[AsyncIterator[Event]]: ...


class Output(Protocol):
    """One attempt's output: its spool, and when no byte will be added."""

    @property
    def directory(self) -> Path: ...
    @property
    def attempt(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    async def wait_begun(self) -> None:
        """Until there are files to read, or it is complete."""

    async def wait_complete(self) -> None: ...


class Held(Protocol):
    """An unfinished job."""

    @property
    def record(self) -> Record: ...


class Durable(Protocol):
    """The records' file."""

    @property
    def commits(self) -> int: ...


class Growing(Protocol):
    """What is received for a job that is not there yet."""

    def grow(self, count: int) -> None: ...


class Supervised(Protocol):
    """The jobs of a daemon, as engine.Engine has them."""

    @property
    def ready(self) -> bool: ...
    @property
    def events(self) -> Events: ...
    @property
    def jobs(self) -> Mapping[str, Held]: ...
    @property
    def store(self) -> Durable: ...

    def uploading(self, peer: Peer) -> AbstractContextManager[Growing]: ...
    async def set_ready(self, ready: bool) -> None: ...
    async def terminate(self) -> None: ...
    async def submit(
        self,
        request: Request,
        peer: Peer,
        *,
        stdin: Path | None = None,
        attached: Attached | None = None,
    ) -> Started: ...
    async def find(self, ref: str, peer: Peer) -> Record: ...
    async def page(
        self,
        peer: Peer,
        *,
        state: str | None = None,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> JobPage: ...
    async def status(self, record: Record) -> JobStatus: ...
    async def wait(self, record: Record, timeout: float | None = None) -> JobStatus: ...  # noqa: ASYNC109
    async def stop(
        self, record: Record, signal_number: int | None = None, grace_ms: int | None = None
    ) -> None: ...
    async def kill(self, record: Record) -> None: ...
    async def signal(self, record: Record, number: int) -> None: ...
    async def pause(self, record: Record) -> None: ...
    async def resume(self, record: Record) -> None: ...
    async def change(self, record: Record, options: dict[str, Any]) -> JobStatus: ...
    async def remove(self, record: Record, *, force: bool = False) -> None: ...
    async def prune(self, peer: Peer, asked: PruneRequest) -> list[str]: ...
    def spool(self, record: Record, attempt: int | None = None) -> Output: ...
