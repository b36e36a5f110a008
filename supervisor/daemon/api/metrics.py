"""GET /metrics: numbers in Prometheus' text format, gathered when they are asked for."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from ...protocol import UNFINISHED
from .call import House

Sample = tuple[str, float]  # labels as they stand between braces, value


def exposition(house: House) -> bytes:
    """The page."""
    lines: list[str] = []
    for name, kind, tells, samples in _families(house):
        lines += [f"# HELP {name} {tells}", f"# TYPE {name} {kind}"]
        lines += [
            f"{name}{{{labels}}} {value:.15g}" if labels else f"{name} {value:.15g}"
            for labels, value in samples
        ]
    return ("\n".join(lines) + "\n").encode()


def _families(house: House) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    engine, limits = house.engine, house.limits
    states = Counter(job.record.state.value for job in list(engine.jobs.values()))
    yield (
        "jobsup_jobs",
        "gauge",
        "Jobs that have not ended, by state.",
        # All of them: a series that comes and goes cannot be summed or watched.
        [(f'state="{state}"', states[state]) for state in UNFINISHED],
    )
    yield "jobsup_ready", "gauge", "Whether new jobs are taken.", [("", engine.ready)]
    commits = [("", engine.store.commits)]
    yield "jobsup_commits_total", "counter", "Transactions that were made durable.", commits
    answers = [(f'status="{status}"', n) for status, n in sorted(house.answers.items())]
    yield "jobsup_answers_total", "counter", "Requests, by the status of their answer.", answers
    yield "jobsup_connections", "gauge", "Connections now.", [("", limits.connections)]
    yield "jobsup_followers", "gauge", "Answers that last, now.", [("", limits.followers)]
    uptime = time.monotonic() - house.started
    yield "jobsup_uptime_seconds", "gauge", "Since the daemon was started.", [("", uptime)]
    yield from _of_the_process()


def _of_the_process() -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    seconds = spent.ru_utime + spent.ru_stime
    yield "process_cpu_seconds_total", "counter", "Processor time.", [("", seconds)]
    resident = _resident_pages() * resource.getpagesize()
    yield "process_resident_memory_bytes", "gauge", "Resident memory.", [("", resident)]
    descriptors = len(os.listdir("/proc/self/fd"))
    yield "process_open_fds", "gauge", "Open descriptors.", [("", descriptors)]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield "process_max_fds", "gauge", "How many it may have.", [("", most)]


def _resident_pages() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])
