"""What is kept of a job: plain values, as the store writes them and the engine holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .state import State


@dataclass(slots=True, kw_only=True)
class Record:
    """One job. Times are nanoseconds of CLOCK_REALTIME. The engine changes it and saves it."""

    id: str
    seq: int = 0  # the order of submission; 0 until it is first saved, never used again
    # the owner, as their socket's peer credentials said
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    user: str = ""  # to show
    name: str | None = None
    request: dict[str, Any] = field(default_factory=dict)  # Request.to_plain()
    argv: list[str] = field(default_factory=list)  # to show
    state: State = State.QUEUED
    attempt: int = 1
    queued_ns: int
    started_ns: int | None = None
    ended_ns: int | None = None
    due_ns: int | None = None  # when a queued job may start; None: now
    reason: str | None = None  # why it is where it is
    boot_id: str = ""  # of the boot that its attempt was started in
    attached: bool = False  # it lives and dies with a client in the foreground
    stop: tuple[int, int] | None = None  # signal, grace_ms: it was asked to stop
    limits: dict[str, str] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None  # of the last attempt that ended
    output_bytes: int = 0  # of all attempts that are kept


class AttemptRow(NamedTuple):
    """One run that has ended."""

    attempt: int
    started_ns: int | None
    ended_ns: int | None
    verdict: dict[str, Any] | None
    limits: dict[str, str]


class Transition(NamedTuple):
    """One move of a job, in the order in which they were saved."""

    job: str
    attempt: int
    state: State
    at_ns: int
    reason: str | None
    cause: str | None
    status: int | None
