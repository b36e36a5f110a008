"""The daemon: jobs through its socket, its lists, its followers, what an idle job costs, adoption.

One daemon is started for all of it, on a state directory of its own, by the command as people call
it. Its clients are other processes (daemon_client). Targets stand beside what was measured, as far
as they are absolute; what a launch costs in multiples of the floor is launches' to tell.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .daemon_client import JOB, Connection
from .launches import FLOOR, Workshop, clear_stand_in, contestants, rate_of
from .report import number, percentile, table

_CLIENT = [sys.executable, "-I", "-B", "-m", "bench.daemon_client"]
_CLIENTS = (1, 4, 8)
_MIB = 1 << 20


class Daemon:
    """A running `jobsup serve`."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self.state = shop.directory / "state"
        self.socket = str(self.state / "run" / "jobsup.sock")
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[str]:
        command = [*self._shop.command, "serve", "--state", str(self.state)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "ready" in line:
                return process
        raise RuntimeError("".join(told))

    def restart(self) -> float:
        """Kill it; the seconds that a new one took until it was ready."""
        self.process.kill()
        self.process.wait()
        begun = time.monotonic()
        self.process = self._begin()
        return time.monotonic() - begun

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def connect(self) -> Connection:
        return Connection(self.socket)

    def come_to_rest(self) -> None:
        """Until every job has ended."""
        connection = self.connect()
        while live := connection.call("GET", "/jobs?state=running&limit=1")["jobs"]:
            connection.call("GET", f"/jobs/{live[0]['id']}/wait")
        connection.close()

    def rss(self) -> int:
        """Resident KiB."""
        return _rollup(self.process.pid, "Rss")

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        """One number of GET /metrics."""
        connection = self.connect()
        text = connection.text("/metrics")
        connection.close()
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))


def _rollup(pid: int, field: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


@contextmanager
def running(shop: Workshop) -> Iterator[Daemon]:
    daemon = Daemon(shop)
    try:
        yield daemon
    finally:
        daemon.close()
        clear_stand_in(shop)


def measure_jobs(shop: Workshop, seconds: float) -> None:
    """start → acknowledged and start → finished; jobs a second by 1, 4 and 8 clients, beside what
    the floor does with as many launchers."""
    floor_server = contestants(shop, max(_CLIENTS), with_peers=False)[FLOOR]
    with running(shop) as daemon:
        commits = daemon.metric("jobsup_commits_total")
        rows, total = [], 0
        for clients in _CLIENTS:
            count = max(5, int(200 * seconds / 6 / clients))
            took, samples = _load(daemon, clients, count, "jobs")
            alone, _ = _load(daemon, clients, count, "starts")
            daemon.come_to_rest()
            total += 2 * clients * count
            floor = rate_of(floor_server, clients, seconds / 6, shop) or 0.0
            rows.append(_row_of(clients, samples, clients * count / took, clients * count / alone))
            rows[-1] += [number(floor), number(clients * count / alone / floor)]
        head = ["", "ack p50 ms", "ack p99", "end p50 ms", "end p99", "jobs/s", "starts/s"]
        table(
            "through the socket: start → launched and durable, start → finished",
            [*head, "floor/s", "× floor"],
            rows,
        )
        per_job = (daemon.metric("jobsup_commits_total") - commits) / total
        print(f"  commits (fsyncs of the daemon) a job: {per_job:.2f}")


def _row_of(clients: int, samples: list[tuple[int, int]], whole: float, starts: float) -> list[str]:
    acknowledged, ended = zip(*samples, strict=True)
    shares = [percentile(values, p) / 1000 for values in (acknowledged, ended) for p in (0.5, 0.99)]
    return [f"{clients} clients", *map(number, shares), number(whole), number(starts)]


def _load(
    daemon: Daemon, clients: int, count: int, mode: str
) -> tuple[float, list[tuple[int, int]]]:
    loads = [
        subprocess.Popen(
            [*_CLIENT, daemon.socket, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(clients)
    ]
    for load in loads:  # connected and warm before the clock runs
        _ask(load, 1)
    for load in loads:
        _answers(load, 1)
    begun = time.monotonic()
    for load in loads:
        _ask(load, count)
    samples = [sample for load in loads for sample in _answers(load, count)]
    took = time.monotonic() - begun
    for load in loads:
        load.communicate()
    return took, samples


def _ask(load: subprocess.Popen[str], count: int) -> None:
    assert load.stdin is not None
    load.stdin.write(f"{count}\n")
    load.stdin.flush()


def _answers(load: subprocess.Popen[str], count: int) -> list[tuple[int, int]]:
    assert load.stdout is not None
    lines = [load.stdout.readline().split() for _ in range(count)]
    return [(int(acknowledged), int(ended)) for acknowledged, ended in lines]


def measure_reads(shop: Workshop, seconds: float) -> None:
    """How many times a second the daemon answers."""
    with running(shop) as daemon:
        connection = daemon.connect()
        jobs = [connection.call("POST", "/jobs/run", JOB)["id"] for _ in range(100)]
        for job in jobs:
            connection.call("GET", f"/jobs/{job}/wait")
        rows = []
        for name, path in (
            ("ping", "/ping"),
            ("status of an ended job", f"/jobs/{jobs[0]}/status"),
            ("list of 100", "/jobs?limit=100"),
        ):
            times, until = [], time.monotonic() + seconds / 3
            while time.monotonic() < until:
                begun = time.perf_counter_ns()
                connection.call("GET", path)
                times.append((time.perf_counter_ns() - begun) / 1000)
            rate = len(times) / (sum(times) / 1e6)
            rows.append(
                [
                    name,
                    number(percentile(times, 0.5)),
                    number(percentile(times, 0.99)),
                    number(rate),
                ]
            )
        table("answers, one connection", ["", "p50 µs", "p99 µs", "a second"], rows)


def measure_followers(shop: Workshop, mebibytes: int) -> None:
    """One output to many followers at once."""
    with running(shop) as daemon:
        connection = daemon.connect()
        grant = {"ro": [str(shop.floor)], "output_max": 4 * mebibytes * _MIB}
        writer = [str(shop.floor), "write", str(mebibytes * _MIB)]
        job = connection.call("POST", "/jobs/run", {**JOB, **grant, "argv": writer})["id"]
        connection.call("GET", f"/jobs/{job}/wait")
        rows = []
        for count in (1, 10, 100):
            before, cpu = daemon.rss(), daemon.cpu_seconds()
            url = f"/jobs/{job}/out?stream=stdout"
            command = [*_CLIENT, daemon.socket, "follow", url, str(count)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            total, usec = map(int, told.split())
            if total < count * mebibytes * _MIB:
                raise RuntimeError(f"{count} followers read {total} bytes")
            gigabytes = total / 1e9
            spent = (daemon.cpu_seconds() - cpu) / gigabytes
            rows.append(
                [
                    str(count),
                    number(gigabytes / (usec / 1e6)),
                    f"{spent:.3f}",
                    str(daemon.rss() - before),
                ]
            )
        head = ["followers", "GB/s", "CPU s/GB", "+ KiB"]
        table(f"{mebibytes} MiB of output to followers (targets: 12 GB/s, 0.06 s/GB)", head, rows)


def measure_idle_jobs(shop: Workshop, count: int) -> None:
    """What sleeping jobs cost the daemon, and how long a new daemon takes to take them up."""
    with running(shop) as daemon:
        connection = daemon.connect()
        empty = daemon.rss()
        sleeper = {**JOB, "argv": ["sleep", "infinity"]}
        jobs = [connection.call("POST", "/jobs/run", sleeper)["id"] for _ in range(count)]
        full = daemon.rss()
        descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        cpu = daemon.cpu_seconds()
        time.sleep(10)  # of doing nothing, which is what is measured
        idle = daemon.cpu_seconds() - cpu
        adoption = daemon.restart()
        connection = daemon.connect()
        stopped = time.monotonic()
        for job in jobs:
            connection.call("PUT", f"/jobs/{job}/stop", {})
        for job in jobs:
            connection.call("GET", f"/jobs/{job}/wait")
        stopped = time.monotonic() - stopped
    rows = [
        ["daemon, no job, KiB (target 45 MiB)", str(empty)],
        ["a sleeping job in it, KiB (10)", number((full - empty) / count)],
        ["descriptors a job", number(descriptors / count)],
        ["CPU ms in 10 idle s (1)", number(idle * 1000)],
        [f"ready again with {count} jobs, s (2)", number(adoption)],
        ["all stopped and ended, s", number(stopped)],
    ]
    table(f"{count} sleeping jobs", ["", ""], rows, width=44)


def measure(shop: Workshop, seconds: float, mebibytes: int, idle_jobs: int) -> None:
    """All of it."""
    measure_jobs(shop, seconds)
    measure_reads(shop, min(seconds, 6))
    measure_followers(shop, mebibytes)
    measure_idle_jobs(shop, idle_jobs)
