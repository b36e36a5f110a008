"""Launch latency and rate: ours, the floor under it, and the peers, interleaved in one run.

Every contestant is a server (floor.Server) that is asked for one launch at a time, in an order that
is shuffled each round, so that whatever disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import floor, peers
from .report import number, percentile, table

PLAIN, FLOOR, LIBRARY, RUN, CLI = "fork + exec", "floor (C)", "launch", "jobsup.run", "jobsup run"
SLOW = 4
SHARES = (0.5, 0.9, 0.99)
Servers = dict[str, floor.Server]
Maker = Callable[[int], floor.Server]  # of the n-th server of a contestant


@dataclass(frozen=True)
class Workshop:
    """Where the bench makes its things, and which kind of launch it measures."""

    directory: Path
    floor: Path
    init: Path
    stand_in: bool

    @property
    def command(self) -> list[str]:
        """The `jobsup` command line tool."""
        flags = [sys.executable, "-I", "-B"]  # as ./run calls it
        if self.stand_in:
            return [*flags, str(floor.BENCH / "standin.py"), str(self.directory)]
        return [*flags, "-m", "jobsup"]


def contestants(shop: Workshop, clients: int, with_peers: bool) -> dict[str, Maker]:
    """How to make a server of each contestant; a peer that does not run here says why."""
    extra = ["--stand-in"] if shop.stand_in else []
    worker = ["-I", "-B", "-m", "bench.worker"]
    python = sys.executable

    planning = [python, *worker, "plan", str(shop.directory), str(clients), *extra]
    made = subprocess.run(planning, check=True, stdout=subprocess.PIPE, text=True).stdout
    planned = [line.split() for line in made.splitlines()]

    def floor_server(index: int) -> floor.Server:
        plan, *rest = planned[index]
        return floor.Server(shop.floor, "launch", plan, shop.init, *rest)

    def library(mode: str) -> Maker:
        return lambda _: floor.Server(python, *worker, mode, str(shop.directory), *extra)

    def program(*argv: str) -> Maker:
        return lambda _: floor.Server(shop.floor, "exec", *argv)

    found = {
        PLAIN: program("true"),
        FLOOR: floor_server,
        LIBRARY: library("launch"),
        RUN: library("embedded"),
        CLI: program(*shop.command, "run", "--quiet", "--mem", "64M", "--cwd", "/", "--", "true"),
    }
    usable = peers.WITHOUT_CGROUPS if shop.stand_in else peers.PEERS.keys()
    for name in usable if with_peers else ():
        found[name] = _peer(name, shop)
    return found


def _peer(name: str, shop: Workshop) -> Maker:
    def server(index: int) -> floor.Server:
        directory = shop.directory / f"peer-{index}"
        directory.mkdir(exist_ok=True)
        peer = peers.find(name, directory)
        return floor.Server(*peer.under, shop.floor, "exec", *peer.argv)

    return server


def begin(
    makers: dict[str, Maker], index: int = 0
) -> tuple[dict[str, floor.Server], dict[str, str]]:
    """A server of each that can launch here, tried once, and why the others cannot."""
    servers, absent = {}, {}
    for name, make in makers.items():
        try:
            server = make(index)
            server.ask(1)
            server.answer(1)
        except (RuntimeError, BrokenPipeError) as error:
            absent[name] = str(error)
        else:
            servers[name] = server
    return servers, absent


def interleave(
    servers: Servers, rounds: int, deadline: float, clear: Callable[[], None]
) -> dict[str, list[floor.Sample]]:
    """So many launches of each, fewer when `deadline` (time.monotonic) comes first. Who takes more
    than SLOW times the floor is asked in each SLOW-th round only, or the others had few."""
    samples: dict[str, list[floor.Sample]] = {name: [] for name in servers}
    order = list(servers)
    for turn in range(rounds):
        random.shuffle(order)
        for name in order:
            if turn % SLOW == 0 or samples[name][0].ended < SLOW * samples[FLOOR][0].ended:
                servers[name].ask(1)
                samples[name] += servers[name].answer(1)
        clear()
        if time.monotonic() > deadline:
            break
    return samples


def clear_stand_in(shop: Workshop) -> None:
    """Leaves that are no cgroups have files in them and so survive their rmdir."""
    if shop.stand_in:
        for leaf in (shop.directory / "cgroup/jobsup/jobs").iterdir():
            if leaf.is_dir():
                shutil.rmtree(leaf)


def measure_latency(shop: Workshop, makers: dict[str, Maker], rounds: int, seconds: float) -> None:
    servers, absent = begin(makers)
    samples = interleave(servers, rounds, time.monotonic() + seconds, lambda: clear_stand_in(shop))
    for server in servers.values():
        server.close()
    base = percentile([sample.ended for sample in samples[FLOOR]], 0.5)
    plain = percentile([sample.ended for sample in samples[PLAIN]], 0.5)
    head = ["", "n", "p50 ms", "p90", "p99", "CPU ms", "× floor", "× plain"]
    rows = [
        [name, str(len(taken)), *_row([sample.ended for sample in taken], taken, base, plain)]
        for name, taken in samples.items()
    ]
    table("start → finished, interleaved", head, rows)
    executed = {
        name: [sample.executed for sample in taken if sample.executed is not None]
        for name, taken in samples.items()
    }
    base = percentile(executed[FLOOR], 0.5)
    rows = [
        [name, str(len(values)), *(number(percentile(values, p) / 1000) for p in SHARES), "",
         number(percentile(values, 0.5) / base), number(percentile(values, 0.5) / plain)]
        for name, values in executed.items() if values
    ]  # fmt: skip
    table("start → command executed", [*head[:5], "", *head[6:]], rows)
    for name, why in absent.items():
        print(f"  {name}: {why}")


def _row(values: list[float], samples: list[floor.Sample], base: float, plain: float) -> list[str]:
    middle = percentile(values, 0.5)
    cpu = sum(sample.cpu for sample in samples) / len(samples)
    shares = [number(percentile(values, p) / 1000) for p in SHARES]
    return [*shares, number(cpu / 1000), number(middle / base), number(middle / plain)]


def measure_rate(shop: Workshop, makers: dict[str, Maker], clients: int, seconds: float) -> None:
    """Launches a second by one client and by several at once."""
    rows = []
    slice_seconds = seconds / max(1, len(makers)) / 2
    rates: dict[str, list[float]] = {}
    for name, make in makers.items():
        alone = rate_of(make, 1, slice_seconds, shop)
        if alone is not None:
            together = rate_of(make, clients, slice_seconds, shop)
            rates[name] = [alone, together or 0.0]
    for name, (alone, together) in rates.items():
        share = together / rates[FLOOR][1]
        rows.append([name, number(alone), number(together), number(share)])
    head = ["", "1 client", f"{clients} clients", "× floor"]
    table("launches a second", head, rows)


def rate_of(make: Maker, clients: int, seconds: float, shop: Workshop) -> float | None:
    """Launches a second by so many clients; None for a contestant that does not run here."""
    servers = []
    for index in range(clients):
        ready, _ = begin({"": make}, index)
        if not ready:
            return None
        servers.append(ready[""])
    # One launch tells how many fit into the time; each client then makes as many.
    servers[0].ask(1)
    one = servers[0].answer(1)[0].ended / 1e6
    count = max(2, min(500, int(seconds / one / clients)))
    begun = time.monotonic()
    for server in servers:
        server.ask(count)
    for server in servers:
        server.answer(count)
    lasted = time.monotonic() - begun
    for server in servers:
        server.close()
    clear_stand_in(shop)
    return clients * count / lasted
