"""A process that launches through the library when it is asked, and answers as floor.c does.

    python -m bench.worker launch|embedded|plan|spool DIR [ARG…] [--stand-in]

    launch     jobsup.isolation.launch with walls and limits that were compiled before: one job, the
               default profile, until its init is reaped
    embedded   jobsup.run: the options read, the job, its verdict
    plan N     writes the bytes that the first would send, into DIR, for N floors
    spool COMMAND…  one job with its output kept below DIR; prints what it wrote on stderr

DIR is the bench's own; with --stand-in it holds what standin.py made.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsup.isolation import Limits, Walls
    from jobsup.supervisor.library import Options

# The default profile, with a memory limit so that it is comparable with the peers'.
COMMAND = ["true"]
OPTIONS: Options = {"mem": "64M", "cwd": "/"}
FLOOR_LEAF = "floor"

Times = tuple[int, int]  # ns from the start to exec (0: not known), and to the end


def _walls(name: str) -> tuple[Walls, Limits]:
    from jobsup.supervisor.spec import Spec
    from jobsup.supervisor.translate import Caller, translate

    return translate(Spec.make(COMMAND, **OPTIONS), name, Caller.current())


def launches() -> Iterator[Times]:
    """jobsup.isolation.launch, over and over."""
    from jobsup.isolation import Status, Streams, launch

    walls, limits = _walls("bench")
    number = 0
    while True:
        number += 1
        begun = time.perf_counter_ns()
        job = launch(walls, limits, f"bench-{os.getpid()}-{number}", Streams())
        assert isinstance(job.receive(), Status)
        executed = time.perf_counter_ns() - begun
        while job.receive() is not None:
            pass
        job.conclude()
        yield executed, time.perf_counter_ns() - begun


def runs() -> Iterator[Times]:
    """jobsup.run, over and over."""
    import jobsup

    while True:
        begun = time.perf_counter_ns()
        null = jobsup.DEVNULL
        done = jobsup.run(COMMAND, stdin=null, stdout=null, stderr=null, **OPTIONS)
        yield 0, time.perf_counter_ns() - begun
        assert done.returncode == 0, done.verdict.message


def write_plans(directory: Path, count: int) -> None:
    """For each of `count` floors: its plan, `plan-<leaf>`, and what tells how to launch it."""
    from jobsup.isolation import compile_plan, open_hierarchy

    place = open_hierarchy()
    for number in range(count):
        leaf = f"{FLOOR_LEAF}-{os.getpid()}-{number}"
        walls, limits = _walls(leaf)
        slots = 0b1111  # plan, control socket, leaf, its parent
        plan = compile_plan(walls, place.leaf(leaf).encode()).encode(leaf, slots)
        path = directory / f"plan-{number}"
        path.write_bytes(plan)
        knobs = [f"{knob.file}={knob.value}" for knob in limits.knobs]
        print(path, place.inits, place.jobs, leaf, *knobs)


def keep_output(directory: Path, command: list[str]) -> None:
    from jobsup.isolation import Streams, launch
    from jobsup.supervisor.spec import Spec
    from jobsup.supervisor.translate import Caller, translate

    spool = directory / "spool"
    spool.mkdir()
    descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY)
    name = f"bench-{os.getpid()}"
    walls, limits = translate(Spec.make(command, ro=command[0], cwd="/"), name, Caller.current())
    job = launch(walls, limits, name, Streams(spool=descriptor))
    while job.receive() is not None:
        pass
    job.conclude()
    print((spool / "stderr").read_text(), end="")
    shutil.rmtree(spool)


def serve(launching: Iterator[Times]) -> None:
    for line in sys.stdin:
        for _ in range(int(line)):
            before = _cpu_usec()
            executed, ended = next(launching)
            print(executed, ended, round(_cpu_usec() - before))
        sys.stdout.flush()


def _cpu_usec() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) * 1e6


def main() -> None:
    mode, directory = sys.argv[1], Path(sys.argv[2])
    if sys.argv[-1] == "--stand-in":
        sys.argv.pop()
        from . import standin

        standin.install(directory)
    servers: dict[str, Callable[[], Iterator[Times]]] = {"launch": launches, "embedded": runs}
    if mode == "plan":
        write_plans(directory, int(sys.argv[3]))
    elif mode == "spool":
        keep_output(directory, sys.argv[3:])
    else:
        serve(servers[mode]())


if __name__ == "__main__":
    main()
