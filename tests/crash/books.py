"""The books: what was asked of a daemon, and whether what there is adds up to it.

`Entry` is one submission and all that must become of it. `balance` compares three witnesses that
know nothing of each other: the journal, to which the jobs themselves wrote (programs/bookkeeper.c),
the API, and the machine (processes, cgroups, files). Nothing here knows how a daemon works.

    lost      it was acknowledged, and did not run as often as it should have, or is not known
    doubled   it ran more often, or is known twice
    wrong     how it ended, as told, is not how it ended
    bytes     so many bytes of its output are not what it wrote
    left      something is there that no job needs any more
    mistakes  what the daemons' log calls errors
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.api import Api

BLOCK = 4096
FAILED_RUN = 9  # what a run of `fails` exits with


@dataclass
class Entry:
    """One job. `id` is known once it was acknowledged."""

    name: str
    out: int = 0  # blocks
    err: int = 0
    seed: int = 0
    code: int = 0
    wait_ms: int = 0
    fails: int = 0  # its first runs fail, and it is to be restarted on failure
    holds: bool = False  # it goes on until it is stopped
    paces: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    id: str | None = None

    def request(self, place: Path) -> dict[str, Any]:
        """What is submitted; the journal and the program lie in `place`."""
        numbers = {
            "out": self.out, "err": self.err, "seed": self.seed, "code": self.code,
            "wait": self.wait_ms, "fail": self.fails, "hold": int(self.holds), "paces": self.paces,
        }  # fmt: skip
        said = [f"{key}={number}" for key, number in numbers.items() if number]
        argv = [str(place / "bookkeeper"), str(place / "journal"), self.name, *said]
        restart = {"restart": f"on-failure:{self.fails}"} if self.fails else {}
        return {"argv": argv, "name": self.name, "rw": [str(place)], **restart, **self.options}

    def digest(self, stream: str) -> str:
        """The sum of what it writes to a stream."""
        out = stream == "stdout"
        return written(self.out if out else self.err, self.seed if out else self.seed + 1)

    def size(self, stream: str) -> int:
        return (self.out if stream == "stdout" else self.err) * BLOCK


def blocks(count: int, seed: int) -> Iterator[bytes]:
    """What the program writes, as its author says."""
    body = bytes(ord("!") + (seed * 13 + i * 7) % 90 for i in range(BLOCK))[16:]
    for number in range(count):
        yield b"%015d\n" % number + body


def written(count: int, seed: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(count, seed):
        digest.update(block)
    return digest.hexdigest()


@dataclass
class Account:
    """What does not add up, a line each."""

    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    bytes: int = 0
    torn: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        return [
            f"{what}: {line}"
            for what in ("lost", "doubled", "wrong", "torn", "left", "mistakes")
            for line in getattr(self, what)
        ]

    def __str__(self) -> str:
        counts = (f"{len(getattr(self, what))} {what}" for what in ("lost", "doubled"))
        return (
            f"{self.jobs} jobs, {', '.join(counts)}, {len(self.wrong)} wrong verdicts, "
            f"{self.bytes} bytes lost, {len(self.left)} things left behind, "
            f"{len(self.mistakes)} mistakes in the log"
        )


def balance(entries: Iterable[Entry], place: Path, api: Api) -> Account:
    """Wait for every job that there is to end, then compare."""
    account = Account()
    listed = api.all()
    known: dict[str, list[str]] = {}
    for line in listed:
        known.setdefault(line["name"], []).append(line["id"])
    ended = {line["id"]: api.wait(line["id"]) for line in listed}
    said = Counter((place / "journal").read_text().splitlines())
    for entry in entries:
        account.jobs += 1
        _Auditor(account, entry, said).check(known.pop(entry.name, []), ended, api)
    account.doubled += [f"{name}, of which nobody asked" for name in known]
    return account


class _Auditor:
    """Checks one entry."""

    def __init__(self, account: Account, entry: Entry, said: Counter[str]) -> None:
        self._account = account
        self._entry = entry
        name = entry.name
        self._starts, self._ends, self._terms = (
            said[f"{name} {word}"] for word in ("start", "end", "term")
        )

    def check(self, ids: list[str], ended: dict[str, Any], api: Api) -> None:
        name, account = self._entry.name, self._account
        if len(ids) > 1:
            account.doubled.append(f"{name} is known as {ids}")
        if self._entry.id is not None and self._entry.id not in ids:
            account.lost.append(f"{name} ({self._entry.id}) was acknowledged, and is not known")
        if not ids:
            if self._starts:
                account.lost.append(f"{name} ran {self._starts} times, and is not known")
            return
        status = ended[ids[0]]
        self._check_runs(status)
        self._check_end(status)
        self._check_output(status, api)

    def _check_runs(self, status: Any) -> None:  # noqa: ANN401 - JSON
        entry = self._entry
        least = 0 if entry.holds else entry.fails + 1  # it may have been stopped before it began
        most = entry.fails + 1
        told = f"{entry.name} ({status['id']}, {_end(status)}): {self._starts} starts, not {most}"
        if self._starts < least:
            self._account.lost.append(told)
        if self._starts > most:
            self._account.doubled.append(told)
        attempts = len(status["attempts"])
        if attempts != max(self._starts, 1):
            self._account.wrong.append(f"{told}; {attempts} attempts")

    def _check_end(self, status: Any) -> None:  # noqa: ANN401 - JSON
        entry = self._entry
        verdict = status["verdict"] or {}
        end = (status["state"], verdict.get("cause"), verdict.get("exit_code"))
        said = self._terms if entry.holds else self._ends
        if entry.holds:
            right = ("stopped", "stopped", entry.code if self._terms else None)
        else:
            right = ("failed" if entry.code else "completed", "exited", entry.code)
        if end != right or (said != self._starts):
            self._account.wrong.append(
                f"{entry.name} ({status['id']}): {_end(status)}, not {right}; it said "
                f"{self._starts} times start, {said} times that it ended"
            )
        for attempt in status["attempts"][:-1]:
            run = (attempt["verdict"] or {}).get("exit_code")
            if run != FAILED_RUN:
                self._account.wrong.append(f"{entry.name}: run {attempt['attempt']} ended {run}")

    def _check_output(self, status: Any, api: Api) -> None:  # noqa: ANN401 - JSON
        if not self._starts:
            return
        for attempt in status["attempts"]:
            for stream in ("stdout", "stderr"):
                self._check_stream(status["id"], attempt["attempt"], stream, api)

    def _check_stream(self, job: str, attempt: int, stream: str, api: Api) -> None:
        entry = self._entry
        digest, size = hashlib.sha256(), 0
        for piece in api.pieces(job, stream=stream, attempt=attempt):
            digest.update(piece)
            size += len(piece)
        if digest.hexdigest() == entry.digest(stream):
            return
        expected = entry.size(stream)
        self._account.bytes += abs(expected - size) or expected
        self._account.torn.append(
            f"{entry.name} ({job}), run {attempt}: {stream} has {size} bytes, not {expected}"
        )


def _end(status: Any) -> str:  # noqa: ANN401 - JSON
    verdict = status["verdict"] or {}
    return (
        f"{status['state']} {verdict.get('cause')} {verdict.get('exit_code')} "
        f"{verdict.get('message')!r}"
    )
