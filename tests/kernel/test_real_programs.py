"""Programs that were not written for this: in a job they do what they do outside."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.inside import place
from tests.kernel.jobs import Jobs
from tests.sources import BROTLI

MAKEFILE = """
SOURCES := $(wildcard c/common/*.c c/dec/*.c c/enc/*.c)
libbrotli.a: $(SOURCES:.c=.o)
	$(AR) rcsD $@ $^
%.o: %.c
	$(CC) -O0 -Wall -Ic/include -c $< -o $@
"""


@pytest.fixture
def outside() -> Iterator[Path]:
    with place() as directory:
        yield directory


@pytest.fixture
def sources(outside: Path) -> Path:
    """The tree of a C library, with a Makefile of its own."""
    if not BROTLI.exists():
        pytest.skip(f"no {BROTLI}: tests/sources.py downloads it")
    with tarfile.open(BROTLI) as archive:
        archive.extractall(outside, filter="data")
    tree = outside / BROTLI.name.removesuffix(".tar.gz")
    (tree / "Makefile").write_text(MAKEFILE)
    return tree


def test_a_c_library_is_built_as_it_is_outside(jobs: Jobs, sources: Path) -> None:
    twin = sources.with_name("twin")
    shutil.copytree(sources, twin)
    outside = subprocess.run(["make", "-C", twin], capture_output=True, check=False)
    assert outside.returncode == 0, outside.stderr

    job = jobs.run(["make", "-j2"], cwd=sources, rw=[sources], mem="1G", cpus=1, pids=200)
    assert (job.status, job.stderr) == (0, outside.stderr)
    assert "oom_kill" in job.verdict["events"]
    objects = sorted(path.relative_to(twin) for path in twin.rglob("*.[ao]"))
    assert len(objects) > 30
    for name in objects:
        assert (sources / name).read_bytes() == (twin / name).read_bytes(), name
    assert {path.stat().st_uid for path in sources.rglob("*.o")} == {0}


def test_the_same_without_rw_says_what_to_grant(jobs: Jobs, sources: Path) -> None:
    job = jobs.run(["make"], cwd=sources)
    assert job.status == 2
    assert b"Read-only file system" in job.stderr


# ---- CPython's own tests of what a sandbox most easily breaks


def python_with_tests() -> str:
    """The interpreter that we run on itself, not through its virtual environment."""
    if importlib.util.find_spec("test.test_subprocess") is None:
        pytest.skip("this Python came without its tests (Debian: libpython3.*-testsuite)")
    return os.path.realpath(sys.executable)


# `python -m unittest`, without a hundred tests that come a second time, for systems that lack
# poll(2), and without the two that turn round for a minute each, and are skipped then, where a
# timer of CPU time does not go: in User-mode Linux.
RUN = """
import sys, unittest
from test import test_signal, test_subprocess
del test_signal.ItimerTest.test_itimer_virtual, test_signal.ItimerTest.test_itimer_prof
del test_subprocess.ProcessTestCaseNoPoll
unittest.main(None, argv=["unittest", *sys.argv[1:]])
"""


def unittest(*names: str) -> list[str]:
    script = 'cd /tmp && exec "$@"'  # where the tests make files
    return ["sh", "-c", script, "sh", python_with_tests(), "-c", RUN, "-v", *names]


def test_cpythons_own_tests_pass_as_they_do_outside(jobs: Jobs) -> None:
    """Both at once, since they wait a lot."""
    modules = ["test.test_signal", "test.test_subprocess"]
    running = [jobs.start(unittest(module), mem="1G", pids=500) for module in modules]
    for job in running:
        said = job.process.communicate(timeout=900)[1].decode()
        count = re.search(r"^Ran (\d+) tests in", said, re.MULTILINE)
        assert count, said[-2000:]
        assert int(count[1]) > 40
        failed = re.findall(r"^(?:FAIL|ERROR): \w+ \(([\w.]+)\)", said, re.MULTILINE)
        assert bool(failed) == (job.process.returncode != 0), said[-2000:]
        ours = [name for name in failed if passes_outside(name)]
        assert not ours, said[-10_000:]


def passes_outside(name: str) -> bool:
    return subprocess.run(unittest(name), capture_output=True, check=False).returncode == 0
