"""One job for people: its status, and the story of its end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from jobsup.supervisor.protocol import ENDED, JobStatus
from jobsup.supervisor.units import format_duration, format_size

from . import render
from .table import age, command, until

_WIDTH = 9


def show(status: JobStatus) -> None:
    """A fact a line."""
    for name, text in _facts(status):
        click.echo(f"{name:{_WIDTH}} {render.safe(text)}")


def _facts(status: JobStatus) -> Iterator[tuple[str, str]]:
    now = time.time()
    yield "id", status.id
    if status.name is not None:
        yield "name", status.name
    yield "command", command(status.argv)
    yield "user", status.user
    yield "state", _state(status)
    yield from _end(status)
    for name, stamp in (
        ("queued", status.queued_at),
        ("due", status.due_at),
        ("started", status.started_at),
        ("ended", status.ended_at),
    ):
        if stamp:
            yield name, _at(stamp, now)
    for name in ("time", "cpu_time", "every", "restart"):
        if (asked := status.request.get(name)) is not None:
            yield name.replace("_", "-"), _duration(asked)
    if limits := _limits(status):
        yield "limits", ", ".join(limits)
    if status.current is not None:
        yield "now", current(status.current)
    yield "output", _output(status.output)
    if isinstance(most := status.request.get("output_max"), int):
        yield "output-max", format_size(most)  # asked for, or the daemon's default in force


def _at(stamp: str, now: float) -> str:
    return f"{stamp} ({until(stamp, now) or age(stamp, now) + ' ago'})"


def _duration(asked: object) -> str:
    """A duration of a request's as one types it; a text is as it is."""
    return format_duration(asked * 10**6) if isinstance(asked, int) else str(asked)


_SIZES = {"memory.max": "mem", "memory.high": "mem-high", "memory.low": "mem-low",
          "memory.swap.max": "swap"}  # fmt: skip
_OTHERS = {"cpu.weight": "cpu-weight", "cpuset.cpus": "cpuset", "pids.max": "pids",
           "io.max": "io-max", "io.weight": "io-weight"}  # fmt: skip


_ASKED_SIZES = ("mem", "mem_high", "mem_low", "swap")
_ASKED = ("cpus", "cpu_weight", "cpuset", "pids", "io_weight")


def _limits(status: JobStatus) -> list[str]:
    """As the kernel holds them; those of the request, which it will, while the job is queued."""
    if status.state == "queued":
        return list(_asked(status.request))
    return [_limit(*each) for each in status.limits.items()]


def _asked(request: Mapping[str, Any]) -> Iterator[str]:
    """The limits of a request, in the words of the flags."""
    for name in (*_ASKED_SIZES, *_ASKED):
        if (value := request.get(name)) is not None:
            is_size = name in _ASKED_SIZES and isinstance(value, int)
            yield f"{name.replace('_', '-')} {format_size(value) if is_size else value}"
    if (whole := request.get("oom_group")) is not None:
        yield "oom-group" if whole else "no-oom-group"
    for rates in request.get("io_max") or ():
        yield f"io-max {rates}"
    for file, text in (request.get("cgroup") or {}).items():
        yield f"{file} {text}"


def _limit(file: str, value: str) -> str:
    """A file of the leaf in the words of the flags; what has no flag of its own as it is."""
    if file in _SIZES:
        return f"{_SIZES[file]} {format_size(int(value)) if value.isdecimal() else value}"
    if file == "memory.oom.group":
        return "oom-group" if value == "1" else "no-oom-group"
    if file == "cpu.max" and re.fullmatch("[0-9]+ [1-9][0-9]*", value):
        quota, period = map(int, value.split())
        return f"cpus {quota / period:g}"
    return f"{_OTHERS.get(file, file)} {value}"


def _state(status: JobStatus) -> str:
    again = f", attempt {status.attempt}" if status.attempt > 1 else ""
    why = f": {status.reason}" if status.reason and status.state not in ENDED else ""
    return f"{status.state}{again}{why}"


def _end(status: JobStatus) -> Iterator[tuple[str, str]]:
    verdict = status.verdict
    if verdict is None:
        return
    which = "why" if status.state in ENDED else "last time"
    yield which, verdict.get("message") or ""
    if verdict.get("hint"):
        told = render.advice(verdict.get("cause"), verdict.get("setup_failure"), verdict["hint"])
        yield ("try", verdict["hint"]) if told != verdict["hint"] else ("hint", told)
    if status.state in ENDED:
        yield "exit", str(verdict.get("status"))


def current(used: Mapping[str, int | None]) -> str:
    """What a live job uses."""
    parts = []
    if (memory := used.get("memory")) is not None:
        parts.append(f"memory {format_size(memory, exact=False)}")
    if (cpu := used.get("cpu_usec")) is not None:
        parts.append(f"cpu {cpu / 1e6:.1f}s")
    if (pids := used.get("pids")) is not None:
        parts.append("1 process" if pids == 1 else f"{pids} processes")
    return ", ".join(parts) or "not known"


def _output(told: Mapping[str, Any]) -> str:
    sizes = (told.get("stdout_bytes") or 0, told.get("stderr_bytes") or 0)
    return "{} bytes on stdout, {} on stderr".format(*sizes)


# ---- the story


def explain(status: JobStatus) -> None:
    """What was asked, what happened, the evidence, and what to try."""
    head = f"{status.id} ({status.name})" if status.name else status.id
    click.echo(render.safe(f"{head}: {command(status.argv)}"))
    for attempt in status.attempts[:-1] if status.state in ENDED else status.attempts:
        if attempt.verdict is not None:
            told = f"attempt {attempt.attempt}: {attempt.verdict.get('message')}"
            click.echo(render.safe(told))
    verdict = status.verdict
    if status.state not in ENDED or verdict is None:
        due = f", due {_at(status.due_at, time.time())}" if status.due_at else ""
        click.echo(render.safe(f"{_state(status)}{due}"))
        return
    click.echo(render.safe(f"{_state(status)}: {verdict.get('message')}"))
    for line in _evidence(verdict):
        click.echo(render.safe(f"  {line}"))
    if verdict.get("hint"):
        cause, failure = verdict.get("cause"), verdict.get("setup_failure")
        click.echo(render.safe(render.advice(cause, failure, verdict["hint"])))


def _evidence(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Only what is known is told."""
    if (seconds := verdict.get("wall_seconds")) is not None:  # with its pauses
        yield f"it ran for {seconds:.3f} s, as {verdict.get('user')}"
    if (code := verdict.get("exit_code")) is not None:
        yield f"its first process exited with {code}"
    if verdict.get("signal"):
        yield f"its first process was ended by {verdict['signal']}"
    if failure := verdict.get("setup_failure"):
        yield f"the step that failed: {failure.get('step')}: {failure.get('errno')}"
    yield from _used(verdict.get("usage") or {}, verdict.get("limits") or {})
    happened = {name: count for name, count in (verdict.get("events") or {}).items() if count}
    if happened:
        yield "the kernel counted " + ", ".join(f"{n} {count}" for n, count in happened.items())
    output = verdict.get("output") or {}
    lost = output.get("lost_bytes")
    yield _output(output) + (f", {lost} lost" if lost else "")


def _used(usage: Mapping[str, Any], limits: Mapping[str, str]) -> Iterator[str]:
    if (peak := usage.get("memory_peak")) is not None:
        most = limits.get("memory.max", "max")
        of = f" of {format_size(int(most))}" if most.isdecimal() else ""
        yield f"memory: {format_size(peak, exact=False)} at its peak{of}"
    user, system = usage.get("cpu_user_usec"), usage.get("cpu_system_usec")
    if user is not None and system is not None:
        throttled = usage.get("cpu_throttled_usec")
        held = f", held back for {throttled / 1e6:.3f} s" if throttled else ""
        yield f"processor: {user / 1e6:.3f} s user, {system / 1e6:.3f} s system{held}"
