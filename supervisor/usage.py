"""What a job used and met, from the leaf's counter files as the kernel printed them.

A counter that the kernel does not have, or that is no number, is None: absent, never invented.
The files: Documentation/admin-guide/cgroup-v2.rst, "Controllers".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobsup.isolation import ExitRecord


@dataclass(frozen=True, slots=True)
class Usage:
    """What the job used. Bytes, microseconds and counts; None: not known on this kernel."""

    memory_peak: int | None = None
    memory: dict[str, int | None] | None = None
    cpu_user_usec: int | None = None
    cpu_system_usec: int | None = None
    cpu_throttled_usec: int | None = None
    pids_peak: int | None = None
    io: dict[str, dict[str, int]] | None = None
    pressure: dict[str, dict[str, int]] | None = None


def usage_of(record: ExitRecord | None) -> Usage:
    """What the record says of what the job used."""
    if record is None:
        return Usage()
    counters = record.counters
    cpu = _flat(counters.get("cpu.stat"))
    return Usage(
        memory_peak=_number(counters.get("memory.peak")),
        memory=_sample(record.memory_sample),
        cpu_user_usec=cpu.get("user_usec"),
        cpu_system_usec=cpu.get("system_usec"),
        cpu_throttled_usec=cpu.get("throttled_usec"),
        pids_peak=_number(counters.get("pids.peak")),
        io=_io(counters.get("io.stat")),
        pressure=_pressure(counters),
    )


def current_of(counters: Mapping[str, str]) -> dict[str, int | None]:
    """What a live job uses now, of the files of its leaf."""
    return {
        "memory": _number(counters.get("memory.current")),
        "memory_peak": _number(counters.get("memory.peak")),
        "cpu_usec": _flat(counters.get("cpu.stat")).get("usage_usec"),
        "pids": _number(counters.get("pids.current")),
    }


def events_of(counters: Mapping[str, str]) -> dict[str, int | None]:
    """What happened to the job at its limits, by name; None: not known on this kernel."""
    memory = _flat(counters.get("memory.events"))
    events: dict[str, int | None] = {
        name: memory.get(name) for name in ("oom", "oom_kill", "oom_group_kill")
    }
    events["pids_max"] = _flat(counters.get("pids.events")).get("max")
    return events


def _sample(memory_stat: str | None) -> dict[str, int | None] | None:
    if memory_stat is None:
        return None
    found = _flat(memory_stat)
    return {name: found.get(name) for name in ("anon", "file", "shmem", "kernel")}


def _io(io_stat: str | None) -> dict[str, dict[str, int]] | None:
    if io_stat is None:
        return None
    names = ("rbytes", "wbytes", "rios", "wios")
    return {
        device: {name: counts[name] for name in names if name in counts}
        for device, counts in _keyed(io_stat).items()
    }


def _pressure(counters: Mapping[str, str]) -> dict[str, dict[str, int]] | None:
    """Microseconds in which some or all of the job's processes stood still for want of each."""
    found = {}
    for resource in ("cpu", "memory", "io"):
        lines = _keyed(counters.get(f"{resource}.pressure", ""))
        if lines:
            found[resource] = {
                f"{share}_usec": values["total"]
                for share, values in lines.items()
                if "total" in values
            }
    return found or None


def _flat(text: str | None) -> dict[str, int]:
    """The lines "key number" of files such as memory.events; other lines are left out."""
    found = {}
    for line in (text or "").splitlines():
        key, _, amount = line.partition(" ")
        number = _number(amount)
        if key and number is not None:
            found[key] = number
    return found


def _keyed(text: str) -> dict[str, dict[str, int]]:
    """The lines "key name=number …" of files such as io.stat and memory.pressure."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        for pair in rest.split():
            name, _, amount = pair.partition("=")
            number = _number(amount)
            if key and number is not None:
                found.setdefault(key, {})[name] = number
    return found


def _number(text: str | None) -> int | None:
    """A counter; None when it is absent or is no number ("max")."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None
