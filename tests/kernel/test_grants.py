"""What opens a job's files: --rw, --ro, --tmpfs, --root and --cwd, and what they cannot open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.inside import place
from tests.kernel.jobs import Ended, Jobs


@pytest.fixture
def outside() -> Iterator[Path]:
    with place() as directory:
        (directory / "file").write_text("host")
        yield directory


def sh(jobs: Jobs, script: str, **options: Any) -> Ended:  # noqa: ANN401 - those of Spec
    return jobs.run(["sh", "-c", script], **options)


def failure(ended: Ended) -> tuple[str, str]:
    """Step and errno of a wall that could not be built."""
    assert (ended.status, ended.cause) == (125, "setup"), ended.stderr
    told = ended.verdict["setup_failure"]
    return told["step"], told["errno"]


# ---- --rw and --ro


def test_rw_lets_the_job_write_there_and_nowhere_else(jobs: Jobs, outside: Path) -> None:
    granted = outside / "granted"
    granted.mkdir()
    job = sh(jobs, f"echo new > {granted}/new; echo no > {outside}/file", rw=[granted])
    assert (granted / "new").read_text() == "new\n"
    assert b"Read-only file system" in job.stderr
    assert (outside / "file").read_text() == "host"


def test_a_single_file_can_be_granted(jobs: Jobs, outside: Path) -> None:
    job = sh(jobs, f"echo job > {outside}/file; touch {outside}/other", rw=[outside / "file"])
    assert (outside / "file").read_text() == "job\n"
    assert b"Read-only file system" in job.stderr


def test_what_a_job_writes_belongs_to_its_user(jobs: Jobs, outside: Path) -> None:
    outside.chmod(0o777)
    assert sh(jobs, f"touch {outside}/new", rw=[outside], user="nobody").status == 0
    assert (outside / "new").stat().st_uid == 65534
    assert (outside / "new").stat().st_mode & 0o777 == 0o644


def test_ro_below_rw_is_read_only(jobs: Jobs, outside: Path) -> None:
    """Where two nest the deeper one wins, in whatever order they are given."""
    kept = outside / "kept"
    kept.mkdir()
    for options in ({"rw": [outside], "ro": [kept]}, {"ro": [kept], "rw": [outside]}):
        job = sh(jobs, f"touch {outside}/new && touch {kept}/new", **options)
        assert b"Read-only file system" in job.stderr
        assert not (kept / "new").exists()
        (outside / "new").unlink()


def test_rw_below_ro_is_writable(jobs: Jobs, outside: Path) -> None:
    (outside / "open").mkdir()
    assert sh(jobs, f"touch {outside}/open/new", ro=[outside], rw=[outside / "open"]).status == 0
    assert (outside / "open" / "new").exists()


def test_a_private_directory_opens_by_name(jobs: Jobs, tmp_path: Path) -> None:
    """What lies in the host's /tmp is there when it is granted, and nothing else of it is."""
    (tmp_path / "file").write_text("host")
    job = sh(jobs, f"cat {tmp_path}/file; ls /tmp", ro=[tmp_path])
    assert job.stdout.decode() == f"host{tmp_path.parts[2]}\n"


def test_another_place_in_the_job(jobs: Jobs, outside: Path) -> None:
    job = sh(jobs, "cat /mnt/file; echo job > /mnt/new", rw=[f"{outside}:/mnt"])
    assert job.stdout == b"host"
    assert (outside / "new").read_text() == "job\n"


def test_rw_of_the_root_is_the_whole_host(jobs: Jobs, outside: Path) -> None:
    """All of it but the job's own kernel files and scratch directories, which stay its own."""
    job = sh(jobs, f"echo job > {outside}/file; ls /tmp; cat /proc/1/comm", rw=["/"])
    assert (outside / "file").read_text() == "job\n"
    assert job.stdout.split() == [b"jobsup-init"], job.stderr


def test_the_source_may_be_a_link(jobs: Jobs, outside: Path) -> None:
    (outside / "link").symlink_to("file")
    assert sh(jobs, "cat /mnt/here", ro=[f"{outside}/link:/run/here"]).status != 0
    assert sh(jobs, "cat /run/here", ro=[f"{outside}/link:/run/here"]).stdout == b"host"


@pytest.mark.parametrize("flag", ["rw", "ro"])
def test_a_missing_source_is_named_with_its_option(jobs: Jobs, flag: str) -> None:
    options: dict[str, Any] = {flag: ["/no/such"]}
    job = jobs.run(["true"], **options)
    assert job.status == 125
    assert f"--{flag}".encode() in job.stderr
    assert b"/no/such" in job.stderr


def test_a_target_that_cannot_be_made_is_named(jobs: Jobs, outside: Path) -> None:
    """The host's root is not ours to make directories in."""
    job = jobs.run(["true"], ro=[f"{outside}:/no/such"])
    assert job.status == 125
    assert b"--ro: /no/such: is not there in the job" in job.stderr
    assert not Path("/no").exists()


# ---- --tmpfs


def test_tmpfs_is_empty_writable_and_gone(jobs: Jobs, outside: Path) -> None:
    job = sh(jobs, f"ls {outside}; echo job > {outside}/file", tmpfs=[outside], user="nobody")
    assert (job.status, job.stdout) == (0, b"")
    assert (outside / "file").read_text() == "host"


def test_tmpfs_holds_what_it_was_given(jobs: Jobs) -> None:
    script = "dd if=/dev/zero of=/mnt/a bs=1k count=2000 2>/dev/null; stat -c %s /mnt/a"
    assert sh(jobs, script, tmpfs=["/mnt:256K"]).stdout == b"262144\n"


# ---- --root


@pytest.fixture
def root(outside: Path) -> Path:
    """A small file tree of the user's, with the host's programs to be bound into it."""
    tree = outside / "root"
    for name in "usr proc sys dev tmp etc".split():
        (tree / name).mkdir(parents=True)
    for name in "bin lib lib64".split():
        if os.path.islink(f"/{name}"):
            (tree / name).symlink_to(os.readlink(f"/{name}"))
        else:
            shutil.copytree(f"/{name}", tree / name, symlinks=True)
    return tree


def in_root(jobs: Jobs, root: Path, script: str, **options: Any) -> Ended:  # noqa: ANN401
    return sh(jobs, script, root=root, **{"ro": ["/usr"], **options})


def test_root_is_all_that_the_job_sees(jobs: Jobs, root: Path, outside: Path) -> None:
    job = in_root(jobs, root, f"ls /; cat {outside}/file; ls /srv; cat /proc/self/mountinfo")
    listed, _, mounts = job.stdout.decode().partition("usr\n")
    assert listed.split() == "bin dev etc lib lib64 proc sys tmp".split()
    assert job.stderr.count(b"No such file") == 2
    assert str(outside) not in [line.split()[4] for line in mounts.splitlines()]


def test_root_is_read_only(jobs: Jobs, root: Path) -> None:
    assert b"Read-only" in in_root(jobs, root, "touch /etc/new").stderr
    assert in_root(jobs, root, "touch /etc/new /tmp/new", rw=[f"{root}/etc:/etc"]).status == 0
    assert (root / "etc" / "new").exists()
    assert not (root / "tmp" / "new").exists()


def test_root_can_be_granted_writable(jobs: Jobs, root: Path) -> None:
    assert in_root(jobs, root, "touch /new", rw=[f"{root}:/"]).status == 0
    assert (root / "new").exists()


def test_parent_of_root_is_root(jobs: Jobs, root: Path) -> None:
    job = in_root(jobs, root, "cd /..; cd ../../..; pwd; ls", cwd="/")
    assert job.stdout.split()[:2] == [b"/", b"bin"]


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["/etc", "etc", "/", "../../.."])
def test_a_kernel_directory_that_is_a_link_is_refused(
    jobs: Jobs, root: Path, name: str, target: str
) -> None:
    """What is then written "to /proc" would land elsewhere (CVE-2023-27561, CVE-2025-52881)."""
    (root / name).rmdir()
    (root / name).symlink_to(target)
    step, error = failure(in_root(jobs, root, "true"))
    assert f" on /{name} " in step
    assert error == "ELOOP"


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "/../etc"])
def test_a_link_in_the_root_leads_to_a_place_in_the_root(
    jobs: Jobs, root: Path, outside: Path, link: str
) -> None:
    """Not to the host's directory of that name (CVE-2021-30465)."""
    (root / "way").symlink_to(link)
    (root / "etc" / "here").mkdir()
    job = in_root(jobs, root, "cat /etc/here/file", ro=["/usr", f"{outside}:/way/here"])
    assert job.stdout == b"host"
    assert not Path("/etc/here").exists()


def test_a_scratch_directory_that_is_a_link_stays_in_the_root(jobs: Jobs, root: Path) -> None:
    (root / "tmp").rmdir()
    (root / "tmp").symlink_to("/etc")
    assert in_root(jobs, root, "touch /etc/new && rm /etc/new; ls /etc").stdout == b""


@pytest.mark.parametrize("target", ["/proc/sys", "/proc/irq", "/sys/fs/cgroup"])
def test_a_scratch_directory_takes_no_wall_away(jobs: Jobs, root: Path, target: str) -> None:
    """It lies over what it leads to, which is still there below it."""
    (root / "tmp").rmdir()
    (root / "tmp").symlink_to(target)
    job = in_root(jobs, root, "cat /proc/self/mountinfo")
    kinds = [line.split()[5] for line in job.stdout.decode().splitlines() if f" {target} " in line]
    assert [options.split(",")[0] for options in kinds] == ["ro", "rw"], "the seal, the scratch"


def test_a_link_through_the_inits_own_descriptors_is_refused(
    jobs: Jobs, root: Path, outside: Path
) -> None:
    for name, link in (("magic", "/proc/self/root"), ("descriptor", "/proc/self/fd/2")):
        (root / name).symlink_to(link)
        job = jobs.run(["true"], root=root, ro=["/usr", f"{outside}:/{name}/etc"])
        assert failure(job)[1] == "ELOOP"


def test_a_root_without_the_command_says_so(jobs: Jobs, root: Path) -> None:
    job = jobs.run(["true"], root=root)
    assert (job.status, job.cause) == (127, "exec")


def test_a_root_that_is_not_there_is_named(jobs: Jobs) -> None:
    job = jobs.run(["true"], root="/no/such")
    assert job.status == 125
    assert b"--root" in job.stderr


# ---- --cwd


def test_cwd_must_be_there(jobs: Jobs) -> None:
    job = jobs.run(["true"], cwd="/no/such")
    assert job.status == 125
    assert b"--cwd: /no/such: is no directory in the job" in job.stderr


def test_cwd_that_the_jobs_user_may_not_enter_is_told_with_the_remedy(
    jobs: Jobs, outside: Path
) -> None:
    outside.chmod(0o700)
    job = jobs.run(["true"], cwd=outside, user="nobody")
    assert failure(job) == (f"change to {outside}", "EACCES")
    assert b"--cwd /" in job.stderr


def test_cwd_is_entered_with_the_jobs_own_rights(jobs: Jobs, outside: Path) -> None:
    outside.chmod(0o700)
    assert failure(jobs.run(["true"], cwd=outside, user="nobody"))[1] == "EACCES"


def test_cwd_is_the_callers_unless_said(jobs: Jobs, outside: Path) -> None:
    assert sh(jobs, "pwd", cwd=outside).stdout.decode() == f"{outside}\n"


def test_cwd_under_a_private_directory_is_explained(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.run(["true"], cwd=tmp_path)
    assert job.status == 125
    assert f"--ro {tmp_path}".encode() in job.stderr
    assert jobs.run(["pwd"], cwd=tmp_path, ro=[tmp_path]).stdout.decode() == f"{tmp_path}\n"
