"""The README's first command, as a stranger types it, on whatever host this is.

Where the host's cgroup v2 is usable the job runs on it, else in the guest: what a person sees is
the same, but for one line on stderr.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RUN = REPO / "run"
SEEN = Path("/srv")  # by every job, wherever the checkout lies; a job has a /tmp of its own

pytestmark = pytest.mark.requires("root")


@pytest.fixture(scope="module", autouse=True)
def set_up() -> None:
    """What a change of sources makes `./run` say once is not what these tests are about."""
    subprocess.run([REPO / "tools/setup"], check=True, stderr=subprocess.DEVNULL)


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("here")


def run(
    *arguments: str | Path, cwd: Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [RUN, "jobsup", "run", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )


def said(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What stderr holds besides the one line about the guest."""
    lines = done.stderr.decode().splitlines()
    return [line for line in lines if "bundled guest kernel" not in line]


def test_the_main_job_runs_inside_its_limit() -> None:
    done = run("--mem", "256M", "--", "cat", "/sys/fs/cgroup/memory.max", cwd=SEEN)
    assert (done.returncode, done.stdout, said(done)) == (0, b"268435456\n", [])


def test_a_host_without_cgroup_v2_is_told_in_one_line() -> None:
    ready = subprocess.run([REPO / "tools/host-ready"], capture_output=True, check=False)
    done = run("--", "true", cwd=SEEN)
    told = done.stderr.decode().splitlines()
    assert len(told) == (0 if ready.returncode == 0 else 1), told


def test_streams_and_status_pass_through() -> None:
    done = run("--", "sh", "-c", r"printf '\0out\377'; echo err >&2; exit 9", cwd=SEEN)
    assert (done.returncode, done.stdout, said(done)) == (9, b"\0out\xff", ["err"])


def test_stdin_arrives_whole() -> None:
    data = os.urandom(5_000_000)
    done = run("--", "sha256sum", cwd=SEEN, stdin=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_what_a_job_leaves_in_its_directory_stays(here: Path) -> None:
    script = "echo made > file; mkdir sub; echo deep > sub/file; chmod 640 file"
    done = run("--rw", ".", "--", "sh", "-c", script, cwd=here)
    assert done.returncode == 0, done.stderr
    assert (here / "file").read_text() == "made\n"
    assert (here / "sub/file").read_text() == "deep\n"
    assert (here / "file").stat().st_mode & 0o777 == 0o640


def test_without_a_grant_nothing_can_be_written() -> None:
    done = run("--", "sh", "-c", "echo x > file || exit 4", cwd=SEEN)
    assert done.returncode == 4
    assert "Read-only file system" in done.stderr.decode()


def test_a_directory_that_no_job_sees_is_said_with_the_remedy(here: Path) -> None:
    done = run("--", "true", cwd=here)
    assert done.returncode == 125
    assert f"--ro {here}" in done.stderr.decode()


def test_the_verdict_is_written_where_the_caller_stands(here: Path) -> None:
    done = run("--ro", ".", "--mem", "24M", "--verdict", "verdict.json", "--",
               "python3", "-c", "bytearray(100 << 20)", cwd=here)  # fmt: skip
    assert done.returncode == 137
    verdict = json.loads((here / "verdict.json").read_text())
    assert (verdict["cause"], verdict["limits"]["memory.max"]) == ("memory", str(24 << 20))
    assert any("memory limit 24M reached" in line for line in said(done))


def test_a_directory_as_stdin_is_an_empty_one() -> None:
    directory = os.open("/", os.O_RDONLY)
    try:
        done = subprocess.run(
            [RUN, "jobsup", "run", "--", "wc", "-c"], stdin=directory,
            capture_output=True, timeout=60, check=True, cwd=SEEN,
        )  # fmt: skip
    finally:
        os.close(directory)
    assert done.stdout.split() == [b"0"]


def test_a_closed_pipe_ends_the_job() -> None:
    with subprocess.Popen(
        [RUN, "jobsup", "run", "--", "yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, cwd=SEEN,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(60) == 128 + 13


@pytest.mark.parametrize(
    ("line", "told"),
    [("--mem 5Q true", "--mem: '5Q' is not a size"), ("", "Missing argument")],
)
def test_what_is_refused_needs_no_guest(line: str, told: str) -> None:
    done = run(*line.split(), cwd=SEEN)
    assert done.returncode == 125
    assert done.stderr.decode().startswith(f"jobsup: {told}")


def test_the_options_of_a_command_are_its_own() -> None:
    done = run("echo", "--help", "--rw", "--mem", cwd=SEEN)
    assert (done.returncode, done.stdout, said(done)) == (0, b"--help --rw --mem\n", [])


def test_without_stdin_the_callers_input_is_left_alone() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"mine")
    os.close(write_end)
    command = [str(RUN), "jobsup", "run", "-n", "--", "cat"]
    done = subprocess.run(
        command, stdin=read_end, capture_output=True, cwd=SEEN, timeout=120, check=False
    )
    with os.fdopen(read_end, "rb") as rest:
        assert (done.returncode, done.stdout, rest.read()) == (0, b"", b"mine")


def test_a_verdict_for_a_pipe_of_the_shell_arrives_there(here: Path) -> None:
    script = f"cd {here}; {RUN} jobsup run --ro . --verdict >(cat) -- sh -c 'exit 5'"
    bash = ["bash", "-c", script]
    done = subprocess.run(
        bash, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["status"]) == (5, 5), done.stderr


@pytest.mark.parametrize("redirections", [">&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_error(redirections: str) -> None:
    script = f"exec {RUN} jobsup run -- sh -c 'cat; exit 7' {redirections}"
    done = subprocess.run(
        ["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, cwd=SEEN,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, said(done)) == (7, b"", [])


def test_a_verdict_for_standard_output_arrives_there() -> None:
    done = run("--verdict", "/dev/stdout", "--", "true", cwd=SEEN)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, 0), done.stderr


def test_a_verdict_that_cannot_be_written_is_told_in_a_sentence() -> None:
    done = run("--verdict", "/dev/full", "--", "true", cwd=SEEN)
    assert (done.returncode, len(said(done))) == (125, 1), done.stderr


def test_a_dry_run_needs_no_guest() -> None:
    done = run("--mem", "64M", "--dry-run", "--", "true", cwd=SEEN)
    assert done.returncode == 0
    assert done.stderr == b""
    assert b"set memory.max to 67108864" in done.stdout.splitlines()
