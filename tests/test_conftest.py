"""The skip rules of conftest.py, seen from outside: a suite of its own in a child pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SUITE = """
import pytest

def test_runs(): pass

@pytest.mark.requires("nothing-like-it")
def test_needs(): pass

def test_skips_itself(): pytest.skip("because")

@pytest.mark.xfail
def test_expected(): assert False
"""


def run_suite(folder: Path, must_run: str, suite: str = SUITE, live: str | None = None) -> str:
    conftest = CONFTEST.read_text()
    probe = 'NEEDS["nothing-like-it"] = Need(lambda: "not here", of_kernel=True)\n'
    probe += f"_live_jobs = lambda: {live!r}\n"
    (folder / "conftest.py").write_text(conftest + probe)
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  kernel: k\n  requires: r\n")
    options = ["-p", "no:cacheprovider", "--strict-markers", "-q", "-rA"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options],
        cwd=folder,
        env={**os.environ, "JOBSUP_MUST_RUN": must_run},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_unmet_need_skips(tmp_path: Path) -> None:
    assert "1 passed, 2 skipped, 1 xfailed" in run_suite(tmp_path, "")


def test_must_run_turns_every_skip_into_a_failure(tmp_path: Path) -> None:
    said = run_suite(tmp_path, "1")
    # pytest counts what fails before the test's body as an error
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in said
    assert "not here" in said


def test_nothing_runs_where_jobs_of_others_would_be_ended(tmp_path: Path) -> None:
    said = run_suite(tmp_path, "", live="7 jobs run on this host")
    assert "no tests ran" in said
    assert "7 jobs run on this host" in said


def test_must_run_refuses_a_module_that_skips_itself(tmp_path: Path) -> None:
    suite = 'import pytest\npytest.importorskip("no_such_module_at_all")\n'
    assert "1 error" in run_suite(tmp_path, "1", suite)
    assert "1 skipped" in run_suite(tmp_path, "", suite)


def test_an_unknown_need_is_an_error(tmp_path: Path) -> None:
    suite = SUITE.replace("nothing-like-it", "cgruop2")
    assert "unknown need ['cgruop2']" in run_suite(tmp_path, "", suite)


def test_a_need_of_the_kernel_marks_the_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("kernel") is None


@pytest.mark.requires("cgroup2")
def test_so_does_this_one(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("kernel") is not None
