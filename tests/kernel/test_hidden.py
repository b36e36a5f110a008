"""jobsup's own sockets and state are out of every job's reach, whatever it was granted: who reaches
them rules all jobs. A read-only mount does not stop connect(2), so they must not be there at all.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.inside import ask, place
from tests.kernel.jobs import Jobs
from tests.kernel.test_namespaces import listening

RUN, STATE = Path("/run/jobsup"), Path("/var/lib/jobsup")
GRANTS: list[dict[str, Any]] = [
    {},
    {"rw": ["/"]},
    {"ro": ["/run"]},
    {"ro": ["/var"]},
    {"rw": ["/var/lib"]},
    {"rw": ["/run", "/var", "/"]},
    {"ro": ["/run:/mnt", "/var/lib:/opt"]},
    {"ro": ["/:/mnt"], "tmpfs": ["/srv"]},
    {"rw": ["/"], "tmpfs": ["/var/lib"]},
    {"rw": ["/"], "cap": ["all"]},
    {"root": "/", "rw": ["/var/lib", "/var"]},
    {"ro": ["/run", "/var"], "user": "nobody"},
]


@pytest.fixture(autouse=True)
def secrets() -> Iterator[None]:
    """A socket that anybody may connect to, and a file that anybody may read, in both places."""
    made = []
    for directory in (RUN, STATE):
        directory.mkdir(exist_ok=True)
        mode = directory.stat().st_mode
        directory.chmod(0o755)
        secret = directory / "secret"
        secret.write_text("secret")
        made.append((directory, mode, secret))
    with (
        listening(socket.AF_UNIX, str(RUN / "test.sock")),
        listening(socket.AF_UNIX, str(STATE / "test.sock")),
    ):
        for directory in (RUN, STATE):
            (directory / "test.sock").chmod(0o777)
        yield
    for directory, mode, secret in made:
        secret.unlink()
        (directory / "test.sock").unlink()
        directory.chmod(mode)


def everywhere(*more: str) -> list[str]:
    """Where the two directories could be in a job."""
    prefixes = ["", "/mnt", "/opt", "/host", *more]
    tails = ["/run/jobsup", "/var/lib/jobsup", "/lib/jobsup", "/jobsup"]
    return [prefix + tail for prefix in prefixes for tail in tails]


def assert_out_of_reach(jobs: Jobs, *more: str, **options: Any) -> None:  # noqa: ANN401
    places = everywhere(*more)
    for verb, name in (("read", "secret"), ("connect", "test.sock"), ("write", "")):
        outcomes = ask(jobs, "try_paths", verb, *(f"{path}/{name}" for path in places), **options)
        assert {p: how for p, how in outcomes.items() if how.startswith("=")} == {}, verb


def test_the_secrets_are_there_to_be_found() -> None:
    """Outside, what the probes look for works."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(RUN / "test.sock"))
        assert client.recv(99) == b"reached"
    assert (STATE / "secret").read_text() == "secret"


def test_they_are_roots_alone(jobs: Jobs) -> None:
    """As the first job of a host makes them."""
    with place() as directory:
        fresh = f"for d in /run /var/lib; do mount -t tmpfs none $d; done; umask 0; {DO}"
        jobs.run(["true"], wrapper=["unshare", "--mount", "sh", "-c", fresh, "sh", str(directory)])
        found = (directory / "found").read_text().splitlines()
    assert found == ["root 700 /run/jobsup", "root 700 /var/lib/jobsup"]


# The command line, and then what it made.
DO = 'place=$1; shift; "$@"; stat -c "%U %a %n" /run/jobsup /var/lib/jobsup > $place/found'


@pytest.mark.parametrize("grants", GRANTS, ids=str)
def test_no_grant_reveals_them(jobs: Jobs, grants: dict[str, Any]) -> None:
    assert_out_of_reach(jobs, **grants)


def test_no_root_reveals_them(jobs: Jobs) -> None:
    """A root that holds them: the host's own, seen as a directory of itself, or a part of it."""
    with place() as directory:
        subprocess.run(["mount", "--rbind", "/", directory], check=True)
        subprocess.run(["mount", "--make-rprivate", directory], check=True)
        try:
            assert_out_of_reach(jobs, root=directory)
            assert_out_of_reach(jobs, str(directory))
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", directory], check=True)


@pytest.mark.parametrize("path", [RUN, STATE, RUN / "test.sock", STATE / "secret"])
@pytest.mark.parametrize("flag", ["rw", "ro", "root"])
def test_asking_for_them_is_refused(jobs: Jobs, path: Path, flag: str) -> None:
    options: dict[str, Any] = {flag: path if flag == "root" else [f"{path}:/mnt"]}
    job = jobs.run(["true"], **options)
    assert job.status == 125
    assert b"jobsup's own state" in job.stderr


def test_a_link_to_them_is_refused(jobs: Jobs) -> None:
    with place() as directory:
        (directory / "link").symlink_to(STATE)
        job = jobs.run(["true"], ro=[f"{directory}/link:/mnt"])
    assert job.status == 125
    assert b"jobsup's own state" in job.stderr


def test_a_link_to_what_holds_them_reveals_nothing(jobs: Jobs) -> None:
    with place() as directory:
        (directory / "link").symlink_to("/var")
        assert_out_of_reach(jobs, ro=[f"{directory}/link:/mnt"])


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("/var", "/lib/jobsup"),
        ("/var/lib", "/jobsup"),
        ("/var/lib/jobsup", ""),
        ("/run", "/jobsup"),
        ("/run/jobsup", ""),
    ],
)
def test_another_mount_of_them_reveals_nothing(jobs: Jobs, source: str, where: str) -> None:
    """The host may have the same files at a second place."""
    with mounted("--bind", source) as directory:
        path = f"{directory}{where}"
        assert Path(path, "secret").exists()
        for verb, name in (("read", "secret"), ("connect", "test.sock")):
            (outcome,) = ask(jobs, "try_paths", verb, f"{path}/{name}").values()
            assert not outcome.startswith("="), verb
        refused = jobs.run(["true"], ro=[f"{path}:/mnt"])
        assert b"jobsup's own state" in refused.stderr


@pytest.mark.parametrize("grants", [{}, {"rw": ["/"]}, {"rw": ["/:/mnt"]}], ids=str)
@pytest.mark.parametrize("what", ["-t proc none", "-t sysfs none", "--bind /sys/fs/cgroup"])
def test_no_second_window_into_the_kernel_is_open(
    jobs: Jobs, what: str, grants: dict[str, list[str]]
) -> None:
    """A chroot of the host's often has one. Its procfs shows the host's processes, and by their
    root and descriptors the host's files; writable, the others rule the host."""
    with mounted(*what.split()) as directory:
        paths = [str(directory), f"/mnt{directory}", "/mnt/proc", "/mnt/sys", "/mnt/dev/pts"]
        found = ask(jobs, "try_paths", "read", *paths, **grants)
    assert found[str(directory)] == "="
    assert set(found.values()) <= {"=", "ENOENT"}


@contextmanager
def mounted(*arguments: str) -> Iterator[Path]:
    with place() as directory:
        subprocess.run(["mount", *arguments, directory], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", directory], check=True)
