"""Nothing that is open outside can be reached through what is open inside: not the caller's files,
not the init's.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.inside import ask, place, probe
from tests.kernel.jobs import Jobs
from tests.machine import JOBSUP

# Open in the starter, without close-on-exec: directories of the host and of a cgroup, files.
LEAKING = ["bash", "-c", 'exec 5</ 6>>/srv/log 9</sys/fs/cgroup 77<>/dev/null; exec "$@"', "bash"]


@pytest.fixture
def outside() -> Iterator[Path]:
    with place() as directory:
        yield directory


def assert_nothing_reached(answer: Any) -> None:  # noqa: ANN401 - JSON
    assert answer["pipes"] == {"0": True, "1": True, "2": True}
    assert all(link.startswith("pipe:[") for link in answer["links"].values())
    assert answer["reached"] == {"0": [], "1": [], "2": []}


def test_three_pipes_are_open_and_nothing_else(jobs: Jobs) -> None:
    """With one descriptor of a host directory more, the job walks the host (CVE-2024-21626); with
    one of a cgroup, it changes its own limits (CVE-2021-4197)."""
    wrapper = [word.replace("/srv/log", str(jobs.directory / "log")) for word in LEAKING]
    assert_nothing_reached(ask(jobs, "reach_through_descriptors", wrapper=wrapper))


# Python itself does not start with a directory as its stdin, so this one becomes it later.
WITH_STDIN = """
import os, sys
os.dup2(os.open(sys.argv.pop(1), os.O_RDONLY), 0)
from jobsup.__main__ import main
main()
"""


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("path", ["/", "/etc/passwd", "/sys/fs/cgroup", "/dev/null"])
def test_the_callers_stdin_is_out_of_reach(path: str, user: str) -> None:
    """With the caller's own directory or file as descriptor 0, a job under a read-only root could
    read, and even write, the host through /proc/self/fd/0."""
    command = [sys.executable, "-I", "-c", WITH_STDIN, path, "run", "--cwd", "/", "--user", user]
    command += ["--", *probe("reach_through_descriptors")]
    job = subprocess.run(command, capture_output=True, check=False)
    assert job.returncode == 0, job.stderr
    assert_nothing_reached(json.loads(job.stdout))


def test_the_files_that_take_its_output_are_out_of_reach(jobs: Jobs, outside: Path) -> None:
    out, err = outside / "out", outside / "err"
    err.write_text("kept")
    with out.open("wb") as stdout, err.open("ab") as stderr:
        job = jobs.start(probe("reach_through_descriptors"), stdout=stdout, stderr=stderr)
        assert job.end().status == 0
    assert_nothing_reached(json.loads(out.read_text()))
    assert err.read_text() == "kept"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_caller_without_streams_leaves_none_open(jobs: Jobs, outside: Path, closed: str) -> None:
    """A descriptor that was closed is not taken by the next thing that is opened."""
    answer = outside / "answer"
    jobs.run(
        ["sh", "-c", '"$@" > "$0"', str(answer), *probe("reach_through_descriptors")],
        rw=[outside], wrapper=["sh", "-c", f'exec "$@" {closed}', "sh"],
    )  # fmt: skip
    found = json.loads(answer.read_text())
    assert set(found["links"]) == {"0", "1", "2"}
    assert found["pipes"]["0"] and found["pipes"]["2"]


def test_a_job_of_nobodys_can_open_its_own_streams_again(jobs: Jobs) -> None:
    """Pipes belong to who made them, yet programs write to /dev/stdout and /dev/stderr."""
    script = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr"
    job = jobs.run(["sh", "-c", script], input=b"in", user="nobody")
    assert (job.status, job.stdout, job.stderr) == (0, b"in", b"err\n")


# ---- terminals


def test_the_callers_terminal_is_out_of_reach(jobs: Jobs) -> None:
    """With a terminal of the host's, a job types commands into it (TIOCSTI, CVE-2017-5226)."""
    script = "tty; (: < /dev/tty) || echo no terminal; ls /dev/pts"
    command = [*JOBSUP, "run", "--cwd", "/", "--", "sh", "-c", script]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    text = b""
    try:
        while part := os.read(terminal, 4096):
            text += part
    except OSError:  # EIO: the other end is closed
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    lines = text.decode().split("\r\n")
    assert lines[0] == "not a tty"
    assert "No such device or address" in lines[1]
    assert lines[2:4] == ["no terminal", "ptmx"], "no terminal of the host's"


# ---- the init


@pytest.mark.parametrize("options", [{}, {"user": "nobody"}, {"cap": ["none"]}])
def test_the_init_cannot_be_read_traced_or_robbed(jobs: Jobs, options: dict[str, Any]) -> None:
    """PID 1 holds the leaf's directory, writable (CVE-2016-9962); its program could be replaced by
    whoever may write /proc/1/exe (CVE-2019-5736)."""
    outcomes = ask(jobs, "rob_init", **options)
    absent = {"read /proc/1/stack", "read /proc/1/syscall"}  # as the kernel is configured
    refused = {"EPERM", "EACCES", "EROFS"}
    wrong = {
        what: how
        for what, how in outcomes.items()
        if how not in (refused | {"ENOENT", "ENOSYS"} if what in absent else refused)
    }
    assert wrong == {}


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_the_init_lives_and_reports_whatever_signal_it_is_sent(jobs: Jobs, user: str) -> None:
    job = jobs.run(probe("signal_init"), user=user)
    if user == "root":
        assert (job.status, job.cause) == (7, "exited"), job.stderr
    else:
        assert b"PermissionError" in job.stderr


def test_the_init_cannot_be_offered_to_the_oom_killer(jobs: Jobs) -> None:
    script = "cat /proc/1/comm; echo 1000 > /proc/1/oom_score_adj || exit 5"
    job = jobs.run(["sh", "-c", script])
    assert job.status == 5
    assert job.stdout == b"jobsup-init\n"
    assert b"Read-only file system" in job.stderr


def test_kill_everybody_leaves_the_init(jobs: Jobs) -> None:
    job = jobs.run(["sh", "-c", "sleep 1000 & kill -9 -1; exit 3"])
    assert (job.status, job.cause) == (3, "exited")


@pytest.mark.parametrize("options", [{}, {"cap": ["all"]}, {"rw": ["/"], "cap": ["all"]}])
def test_the_inits_program_cannot_be_written(jobs: Jobs, options: dict[str, Any]) -> None:
    """Not even by who may trace it: the program behind the link runs, and is no file of the host's
    (CVE-2019-5736)."""
    (outcome,) = ask(jobs, "try_paths", "write", "/proc/1/exe", **options).values()
    assert outcome == ("ETXTBSY" if options else "EACCES")
    (outcome,) = ask(jobs, "try_paths", "write", "/proc/self/exe").values()
    assert outcome in ("EROFS", "ETXTBSY")


def test_the_init_holds_nothing_that_a_job_could_want(jobs: Jobs) -> None:
    """As the host sees it: after the pivot it loads nothing from the job's files (CVE-2019-14271),
    and what is open is the plan, the job's procfs, its cgroup, and what carries its output."""
    job = jobs.start(["sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE)
    assert job.line() == "ready"
    of_init = Path(f"/proc/{job.init}")
    mapped = {line.split(maxsplit=5)[-1] for line in (of_init / "maps").read_text().splitlines()}
    files = {name for name in mapped if name.startswith("/")}
    assert {name.split(" ")[0] for name in files} <= {"/memfd:jobsup-init", "/memfd:jobsup-plan"}
    links = {os.readlink(link) for link in (of_init / "fd").iterdir()}
    harmless = ("pipe:[", "socket:[", "anon_inode:", "/memfd:jobsup-", "/sys/fs/cgroup/", "/proc")
    assert {link for link in links if not link.startswith(harmless)} == set()
    assert (of_init / "environ").read_bytes() == b""
    job.stdin.close()


# ---- the working directory


def test_the_working_directory_is_in_the_job(jobs: Jobs, outside: Path) -> None:
    job = jobs.run(["sh", "-c", "pwd -P; readlink /proc/self/cwd"], cwd=outside)
    assert job.stdout.decode().split() == [str(outside)] * 2


@pytest.mark.parametrize("place_of_link", ["/proc/self/fd/2", "/proc/1/cwd", "/proc/1/fd/2"])
def test_a_working_directory_cannot_lead_through_an_open_descriptor(
    jobs: Jobs, outside: Path, place_of_link: str
) -> None:
    """CVE-2024-21626, by a link that the host has."""
    link = outside / "link"
    link.symlink_to(place_of_link)
    job = jobs.run(["pwd", "-P"], cwd=link, wrapper=["sh", "-c", 'exec 2>&1 9</; exec "$@"', "sh"])
    assert job.status == 125, "refused before the start, or by the step that enters it"
    assert str(link).encode() in job.stdout + job.stderr
