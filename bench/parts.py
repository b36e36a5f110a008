"""Where the time of a launch goes on our side: imports, each stage of Python, calls to the kernel.

The stages are timed by themselves, on any kernel and without root: none of them starts anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .launches import Workshop
from .report import number, percentile, table
from .worker import COMMAND, OPTIONS


def _usec(call: Callable[[], object], times: int = 200) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1000)
    return percentile(taken, 0.5)


def measure_stages() -> None:
    from jobsup.isolation import EndedBy, ExitRecord, compile_plan
    from jobsup.supervisor.spec import Spec
    from jobsup.supervisor.translate import Caller, translate
    from jobsup.supervisor.verdict import judge

    spec = Spec.make(COMMAND, **OPTIONS)
    caller = Caller.current()
    walls, _ = translate(spec, "bench", caller)
    leaf = b"/sys/fs/cgroup/jobsup/jobs/bench"
    plan = compile_plan(walls, leaf)
    record = ExitRecord(0, EndedBy.NOTHING, counters={"memory.events": "oom 0\noom_kill 0\n"})
    stages: dict[str, Callable[[], object]] = {
        "Spec.make: the options, checked": lambda: Spec.make(COMMAND, **OPTIONS),
        "translate: walls and limits": lambda: translate(spec, "bench", caller),
        "compile_plan: the steps": lambda: compile_plan(walls, leaf),
        "encode: the plan's bytes": lambda: plan.encode("bench", 15),
        "judge: the verdict": lambda: judge(spec, "bench", record, {}),
    }
    rows = [[name, number(_usec(stage))] for name, stage in stages.items()]
    table("our own stages of a launch", ["", "p50 µs"], rows)


def measure_imports(seconds: float) -> None:
    """The process itself: Python, and with what a command imports."""
    bare = [sys.executable, "-I", "-B", "-c"]
    ways = {
        "python -I -c pass": [*bare, "pass"],
        "… and click": [*bare, "import click"],
        "… and all of `jobsup run`": [
            *bare,
            "import jobsup.cli.main, jobsup.cli.commands.run, jobsup.supervisor.foreground",
        ],
        "… and all of `jobsup.run`": [*bare, "import jobsup.supervisor.library"],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not all(taken.values()):
        for name, argv in ways.items():
            begun = time.perf_counter()
            subprocess.run(argv, check=True)
            taken[name].append((time.perf_counter() - begun) * 1000)
    rows = [[name, number(percentile(values, 0.5))] for name, values in taken.items()]
    table("starting Python", ["", "p50 ms"], rows)


def measure_calls(shop: Workshop) -> None:
    """System calls that the calling process makes for one more launch."""
    if shutil.which("strace") is None:
        print("\nno strace: system calls a launch not counted")
        return
    rows = []
    for mode in ("launch", "embedded"):
        counts = [_calls(shop, mode, launches) for launches in (5, 25)]
        rows.append([mode, number((counts[1] - counts[0]) / 20)])
    table("system calls of the caller for a launch", ["", "calls"], rows)


def _calls(shop: Workshop, mode: str, launches: int) -> int:
    log = shop.directory / "strace"
    command = [
        "strace",
        "-c",
        "-o",
        str(log),
        sys.executable,
        "-I",
        "-B",
        "-m",
        "bench.worker",
        mode,
    ]
    command += [str(shop.directory), *(["--stand-in"] if shop.stand_in else [])]
    subprocess.run(command, input=f"{launches}\n", text=True, check=True, stdout=subprocess.DEVNULL)
    total = re.search(r"^\s*100\.00\s+\S+\s+\S+\s+(\d+)", log.read_text(), re.MULTILINE)
    assert total is not None
    return int(total[1])


def measure_idle(shop: Workshop) -> None:
    """What an init takes while its job sleeps: /proc/PID/smaps_rollup."""
    sleeper = subprocess.Popen(
        [*shop.command, "run", "--quiet", "--mem", "64M", "--cwd", "/", "--", "sleep", "60"],
        stdin=subprocess.DEVNULL,
    )
    try:
        init = _wait_for_init(sleeper.pid)
        found = dict(
            re.findall(r"^(\w+):\s+(\d+) kB", Path(f"/proc/{init}/smaps_rollup").read_text(), re.M)
        )
        names = ("Rss", "Pss", "Private_Dirty", "Private_Clean", "Shared_Clean")
        table("an idle job's init", ["", "KiB"], [[name, found[name]] for name in names])
    finally:
        sleeper.terminate()
        sleeper.wait()


def _wait_for_init(parent: int) -> int:
    """The init of the command line `parent`, once its job sleeps."""
    for _ in range(600):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            for workload in Path(f"/proc/{child}/task/{child}/children").read_text().split():
                if Path(f"/proc/{workload}/comm").read_text() == "sleep\n":
                    return int(child)
        time.sleep(0.05)
    raise RuntimeError("the job did not start")
