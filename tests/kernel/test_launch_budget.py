"""What a launch asks of the kernel. The number of calls is the same on every machine, where the
time that they take is not; it is the guard of what bench/ measures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "programs" / "launch_in_a_row.py"
# For one more job, by the calling process, from launch to the record: 6 for each of the five
# limits, 30 to find the host's paths and mounts, 4 to keep groups of the job's own out of its leaf
# and to look at the init's program again, the rest for the leaf, the plan and the init.
CALLS = 99
FREE = {"clock_gettime", "total"}  # no system call but in User-mode Linux; the sum


def calls(jobs: int, tmp_path: Path) -> dict[str, int]:
    """The system calls of a process that launches so many jobs, by name."""
    log = tmp_path / f"{jobs}.strace"
    command = ["strace", "-c", "-o", str(log), sys.executable, str(PROGRAM), str(jobs)]
    subprocess.run(command, check=True)
    row = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", re.MULTILINE)
    return {name: int(count) for count, name in row.findall(log.read_text())}


@pytest.mark.requires("root", "cgroup2", "strace")
def test_a_launch_stays_within_its_system_calls(tmp_path: Path) -> None:
    few, many = calls(2, tmp_path), calls(12, tmp_path)
    added = {
        name: (count - few.get(name, 0)) / 10 for name, count in many.items() if name not in FREE
    }
    assert added["clone3"] == 1
    assert sum(added.values()) <= CALLS, {name: n for name, n in sorted(added.items()) if n}
