"""What a job's output costs on its way through the init, against plain copies of the same bytes.

A writer puts N MiB into a pipe, 64 KiB at a time, and says how long that took: all but the last
pipe full has then been taken. The job's goes through the init to the reader's pipe, into the file
that was its caller's stdout, or, with an index, into the spool of a kept job; beside it the same
writer into floor.c's read and write, and into cat.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .launches import Workshop
from .report import number, percentile, table

MIB = 1 << 20


def _through(*commands: list[str], out: str = os.devnull) -> float:
    """Seconds that the first of `first | … | last > out` took to write."""
    with open(out, "wb") as target:
        processes: list[subprocess.Popen[bytes]] = []
        for command in commands:
            process = subprocess.Popen(
                command,
                stdin=processes[-1].stdout if processes else subprocess.DEVNULL,
                stdout=target if command is commands[-1] else subprocess.PIPE,
                stderr=None if processes else subprocess.PIPE,
            )
            if processes and (pipe := processes[-1].stdout):
                pipe.close()
            processes.append(process)
    assert processes[0].stderr is not None
    told = processes[0].stderr.read()
    statuses = [process.wait() for process in processes]  # each, also after a failure
    if any(statuses):
        raise RuntimeError(f"{commands}: {told.decode()}")
    return int(told) / 1e9


def _kept(shop: Workshop, writer: list[str]) -> float:
    """Seconds that a job took to write what its init kept."""
    worker = [sys.executable, "-I", "-B", "-m", "bench.worker", "spool", str(shop.directory)]
    command = [*worker, *writer, *(["--stand-in"] if shop.stand_in else [])]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e9


def measure_output(shop: Workshop, mebibytes: int, rounds: int, seconds: float) -> None:
    size = str(mebibytes * MIB)
    write, copy = [str(shop.floor), "write", size], [str(shop.floor), "copy"]
    job = [*shop.command, "run", "--quiet", "--cwd", "/", "--ro", str(shop.floor), "--", *write]
    file = str(shop.directory / "output")
    ways: dict[str, Callable[[], float]] = {
        "to a reader: C → C": lambda: _through(write, copy),
        "to a reader: C → cat → C": lambda: _through(write, ["cat"], copy),
        "to a reader: job → init → C": lambda: _through(job, copy),
        "to a file: C → C → file": lambda: _through(write, [*copy, file]),
        "to a file: C → cat → file": lambda: _through(write, ["cat"], out=file),
        "to a file: job → init → file": lambda: _through(job, out=file),
        "to a file: job → init → spool": lambda: _kept(shop, write),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    deadline = time.monotonic() + seconds
    for _ in range(rounds):
        for name, run in ways.items():
            times[name].append(run())
            Path(file).unlink(missing_ok=True)
        if time.monotonic() > deadline:
            break
    middle = {name: percentile(values, 0.5) for name, values in times.items()}
    rows = []
    for name, lasted in middle.items():
        bare = middle[f"{name.partition(': ')[0]}: C → C{' → file' if 'file' in name else ''}"]
        rows.append([name, number(mebibytes / 1024 / lasted), f"{bare / lasted:.0%}"])
    count = len(next(iter(times.values())))
    table(f"output, {mebibytes} MiB, p50 of {count}", ["", "GiB/s", "of bare C"], rows)
