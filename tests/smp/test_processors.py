"""A job runs where its cpuset says, and uses no more of several processors than it was given."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsup.isolation import LimitNotEnforceable, open_hierarchy
from tests.kernel.jobs import Here, here, program, run_here
from tests.machine import Leaf, leaves

PROCESSORS = sorted(os.sched_getaffinity(0))
# 39 is the processor on which it ran last, proc_pid_stat(5). Each cut is a process of its own.
WHERE = "grep -h Cpus_allowed_list /proc/self/status; for i in 1 2 3 4 5 6 7 8 9 10; do"
WHERE += " cut -d ' ' -f 39 /proc/self/stat; done"


@contextmanager
def _busy(processor: int) -> Iterator[None]:
    """Something that drives others from this processor, if they can leave it."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as spinner:
        os.sched_setaffinity(spinner.pid, {processor})
        yield
        spinner.kill()


@pytest.mark.parametrize("processor", PROCESSORS[:2])
def test_a_job_runs_on_its_cpuset_and_nowhere_else(processor: int) -> None:
    with _busy(processor), here(["sh", "-c", f"{WHERE}; read x"], cpuset=processor) as job:
        job.wait_started()
        leaf = Leaf.of(job.id)
        assert leaf.read("cpuset.cpus.effective") == str(processor)
        assert {frozenset(os.sched_getaffinity(pid)) for pid in leaf.processes()} == {
            frozenset({processor})
        }
        _, stdout, _ = job.end()
    allowed, *used = stdout.decode().splitlines()
    assert allowed.split() == ["Cpus_allowed_list:", str(processor)]
    assert used == [str(processor)] * 10


def test_a_job_without_a_cpuset_runs_on_all() -> None:
    _, stdout, _ = run_here(["nproc"])
    assert int(stdout) == len(PROCESSORS)


# ---- processors that are not to be had


def _refused(cpuset: str) -> LimitNotEnforceable:
    with pytest.raises(LimitNotEnforceable) as refused:
        run_here(["true"], cpuset=cpuset)
    assert leaves() == set()
    assert refused.value.knob == "cpuset.cpus"
    assert "--cpuset" in (refused.value.hint or "")
    return refused.value


def test_a_processor_that_no_machine_like_this_has_is_refused() -> None:
    _refused(str(os.cpu_count() or 0))
    _refused("8191")


@pytest.mark.parametrize("cpuset", ["1", "0-1"])
def test_a_processor_that_a_group_above_leaves_out_is_refused(cpuset: str) -> None:
    """As one that is switched off. The kernel takes it for what is to hold one day, and would let
    the job run elsewhere."""
    run_here(["true"], cpuset="0")  # has the controller enabled
    above = Path(open_hierarchy().jobs, "cpuset.cpus")
    above.write_text("0")
    try:
        assert "would run on '0'" in _refused(cpuset).cause
        assert run_here(["nproc"], cpuset="0")[1] == b"1\n"
    finally:
        above.write_text("\n")


# ---- time on several processors


def _spinning(job: Here) -> Leaf:
    """A job of spinners that all run."""
    source = job.captures[0]._source
    assert os.read(source, 100) == b"spinning\n"
    return Leaf.of(job.id)


@pytest.mark.parametrize("cpus", [0.5, 1.5])
def test_spinners_on_two_processors_get_what_they_were_given_and_no_more(cpus: float) -> None:
    """By the kernel's count, over as many seconds as it takes until the moments even out in which
    an emulated processor is held back by its own host."""
    with here(program("spinner", 4), cpus=cpus, cpuset="0-1") as job:
        leaf = _spinning(job)
        before, start = leaf.value("cpu.stat", "usage_usec"), time.monotonic_ns()
        shares: list[float] = []
        while len(shares) < 6 and shares[-1:] != pytest.approx([cpus], rel=0.05):
            time.sleep(4)
            used = leaf.value("cpu.stat", "usage_usec") - before
            shares.append(used * 1000 / (time.monotonic_ns() - start))
    assert shares[-1] == pytest.approx(cpus, rel=0.05), shares


def test_cpu_time_counts_both_processors_and_ends_the_job_in_time() -> None:
    """Who took a rest of 3 s for 3 s to wait would let two processors use 6. How late an emulated
    processor sees a timer is the host's affair."""
    verdict, _, _ = run_here(program("spinner", 2), cpu_time="3s")
    assert verdict.cause == "cpu-time"
    used = (verdict.usage.cpu_user_usec or 0) + (verdict.usage.cpu_system_usec or 0)
    assert 3_000_000 <= used < 4_500_000
