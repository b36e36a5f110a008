"""The walls from inside: mounts, /proc, /sys, /dev, and the system calls that would move them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.kernel.inside import ask, place, portrait
from tests.kernel.jobs import Jobs

# Masked by the OCI default, or by one of the engines.
MASKED = [
    *(
        f"/proc/{name}"
        for name in "acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list "
        "timer_stats".split()
    ),
    *(f"/sys/{name}" for name in "firmware fs/selinux devices/virtual/powercap".split()),
]
READ_ONLY = "/proc/1 /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
PRIVATE = "/tmp /var/tmp /run /dev/shm".split()
OWN = {"/", "/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/mqueue", *PRIVATE}


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo."""

    identity: str
    parent: str
    target: str
    options: frozenset[str]
    kind: str

    @classmethod
    def parse(cls, line: str) -> Self:
        before, after = line.split(" - ")
        identity, parent, _, _, target, options = before.split(" ")[:6]
        return cls(identity, parent, target, frozenset(options.split(",")), after.split(" ")[0])


def mounts(text: str) -> list[Mounted]:
    return [Mounted.parse(line) for line in text.splitlines()]


def host_mounts() -> list[Mounted]:
    return mounts(Path("/proc/self/mountinfo").read_text())


@pytest.fixture
def outside() -> Iterator[Path]:
    with place() as directory:
        yield directory


@pytest.fixture
def mounted(outside: Path) -> Iterator[Path]:
    """A writable file system of the host's, shared, with a writable one on it."""
    for target in (outside, outside / "below"):
        target.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
        subprocess.run(["mount", "--make-shared", target], check=True)
    try:
        yield outside
    finally:
        subprocess.run(["umount", "--recursive", outside], check=True)


# ---- mounts


def test_a_job_has_its_own_mounts_and_no_others(jobs: Jobs) -> None:
    """What is left of the host are the file systems below /, and none of its kernel's."""
    there = mounts(portrait(jobs)["mountinfo"])
    covered = ("/proc", "/sys", "/dev", *PRIVATE)
    of_the_host = {m.target for m in host_mounts() if not m.target.startswith(covered)}
    walls = {m.target for m in there if m.target.startswith(tuple(MASKED + READ_ONLY))}
    assert {m.target for m in there} - walls == of_the_host | OWN | {"/var/lib/jobsup"}
    known = {m.identity for m in there}
    assert [m.target for m in there if m.parent not in known] == ["/"], "the old root is behind"


def test_what_is_writable_is_nosuid_and_nodev(jobs: Jobs, mounted: Path) -> None:
    job = portrait(jobs, rw=[mounted], tmpfs=["/mnt"])
    writable = [m for m in mounts(job["mountinfo"]) if "rw" in m.options]
    assert {str(mounted), str(mounted / "below"), "/mnt", *PRIVATE} < {m.target for m in writable}
    for mount in writable:
        assert "nosuid" in mount.options
        assert "nodev" in mount.options or mount.kind == "devpts"


def test_read_only_is_recursive(jobs: Jobs, mounted: Path) -> None:
    paths = ["/", "/etc", "/etc/passwd", "/usr/bin", "/root", mounted, mounted / "below"]
    outcomes = ask(jobs, "try_paths", "write", *paths)
    assert outcomes == {str(path): "EROFS" for path in paths}


def test_no_mount_of_the_hosts_appears_in_a_running_job(jobs: Jobs, mounted: Path) -> None:
    script = f"echo ready; read line; ls {mounted}/below; cat /proc/self/mountinfo"
    job = jobs.start(["sh", "-c", script], stdin=subprocess.PIPE)
    assert job.line() == "ready"
    subprocess.run(["mount", "-t", "tmpfs", "late", mounted / "below"], check=True)
    (mounted / "below" / "late-file").touch()
    job.stdin.write(b"\n")
    said = job.end().stdout.decode()
    assert str(mounted / "below") in said
    assert "late" not in said


def test_no_mount_of_a_jobs_appears_in_the_host(jobs: Jobs, mounted: Path) -> None:
    """Even of one that may mount."""
    before = host_mounts()
    job = jobs.run(["mount", "-t", "tmpfs", "none", f"{mounted}/below"], cap=["sys_admin"])
    assert job.status == 0, job.stderr
    assert host_mounts() == before


def test_the_host_can_unmount_what_a_job_sees(jobs: Jobs, mounted: Path) -> None:
    job = jobs.start(["sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE)
    assert job.line() == "ready"
    subprocess.run(["umount", mounted / "below"], check=True)
    assert not os.path.ismount(mounted / "below")
    job.close()


@pytest.mark.parametrize("options", [{}, {"user": "nobody"}, {"cap": ["none"]}])
def test_a_job_can_move_no_wall(jobs: Jobs, options: dict[str, Any]) -> None:
    outcomes = ask(jobs, "forbidden_calls", **options)
    assert {name: how for name, how in outcomes.items() if how not in ("EPERM", "EACCES")} == {}


# ---- /proc and /sys


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_masked_paths_show_nothing(jobs: Jobs, user: str) -> None:
    there = [path for path in MASKED if os.path.exists(path)]
    assert "/proc/kcore" in there
    allowed = {"="} if user == "root" else {"EACCES"}
    assert set(ask(jobs, "try_paths", "read", *there, user=user).values()) == allowed
    written = ask(jobs, "try_paths", "write", *there, user=user)
    assert set(written.values()) <= {"EROFS", "EACCES"}


def test_every_thermal_throttle_is_masked(jobs: Jobs) -> None:
    """The throttle counters of a processor tell what its other users compute."""
    there = [str(p) for p in Path("/sys/devices/system/cpu").glob("cpu*/thermal_throttle")]
    assert set(ask(jobs, "try_paths", "read", *there).values()) <= {"="}


def test_kernel_settings_cannot_be_written(jobs: Jobs) -> None:
    """core_pattern and sysrq-trigger act on the whole host."""
    settings = [str(path) for path in Path("/proc/sys/kernel").iterdir() if path.is_file()]
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", *settings, *READ_ONLY]
    there = [path for path in paths if os.path.exists(path)]
    outcomes = ask(jobs, "try_paths", "write", *there)
    assert "/proc/sysrq-trigger" in outcomes
    # Some are absent: they belong to a namespace that the job does not share.
    assert set(outcomes.values()) <= {"EROFS", "EACCES", "ENOENT"}, outcomes
    assert outcomes["/proc/sys/kernel/core_pattern"] == "EROFS"
    modes = ask(jobs, "try_paths", "chmod", *(path for path in READ_ONLY if path in there))
    assert set(modes.values()) <= {"EROFS", "EPERM"}


def test_sysfs_cannot_be_written(jobs: Jobs) -> None:
    there = [
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/kernel/uevent_helper",
    ]
    there += [str(path) for path in Path("/sys/block").glob("*/queue/read_ahead_kb")]
    paths = [path for path in there if os.path.exists(path)]
    assert paths
    assert set(ask(jobs, "try_paths", "write", *paths).values()) == {"EROFS"}


def test_proc_shows_the_jobs_own_processes(jobs: Jobs) -> None:
    job = jobs.run(["sh", "-c", "ls /proc; kill -0 $0", str(os.getpid())])
    pids = [int(name) for name in job.stdout.split() if name.isdigit()]
    assert pids[0] == 1
    assert len(pids) == 3, "the init, the shell and ls"
    assert os.getpid() not in pids
    assert b"No such process" in job.stderr


# ---- /dev


def test_dev_is_minimal(jobs: Jobs) -> None:
    paths = {
        "/dev": "=fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
        "/dev/pts": "=ptmx",
        "/dev/mqueue": "=",
        "/dev/shm": "=",
    }
    assert ask(jobs, "try_paths", "read", *paths) == paths


def test_devices_work(jobs: Jobs) -> None:
    script = """
    echo x > /dev/null
    head -c 3 /dev/zero | od -An -tx1
    echo x > /dev/full
    test "$(head -c 16 /dev/urandom | od -An -tx1)" != "$(head -c 16 /dev/random | od -An -tx1)"
    stat -c %t:%T /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty
    """
    job = jobs.run(["bash", "-c", script], user="nobody")
    numbers = b"1:3 1:5 1:7 1:8 1:9 5:0".split()
    assert job.stdout.split() == [b"00", b"00", b"00", *numbers]
    assert b"No space left on device" in job.stderr


def test_dev_cannot_be_changed(jobs: Jobs) -> None:
    assert ask(jobs, "try_paths", "write", "/dev") == {"/dev": "EROFS"}


def test_terminals_are_the_jobs_own(jobs: Jobs) -> None:
    """A devpts of its own counts from 0, whatever the host has open."""
    script = "import os, pty; _, fd = pty.openpty(); print(os.ttyname(fd), os.listdir('/dev/pts'))"
    primary, secondary = os.openpty()
    job = jobs.run(["/usr/bin/python3", "-c", script], user="nobody")
    os.close(primary)
    os.close(secondary)
    assert job.stdout == b"/dev/pts/0 ['0', 'ptmx']\n"


def test_a_device_file_of_the_hosts_is_none_in_the_job(jobs: Jobs, outside: Path) -> None:
    node = outside / "zero"
    os.mknod(node, 0o20666, os.makedev(1, 5))
    assert subprocess.run(["head", "-c1", node], capture_output=True, check=True).stdout == b"\0"
    for grants in ({}, {"rw": [outside]}):
        assert ask(jobs, "try_paths", "read", node, **grants) == {str(node): "EACCES"}


# ---- scratch directories


def test_scratch_directories_are_private(jobs: Jobs) -> None:
    for name in PRIVATE:
        Path(name, "of-the-host").touch()
    try:
        empty = ask(jobs, "try_paths", "read", *PRIVATE)
        written = ask(jobs, "try_paths", "write", *PRIVATE)
    finally:
        for name in PRIVATE:
            Path(name, "of-the-host").unlink()
    assert set(empty.values()) == {"="}
    assert set(written.values()) == {"="}


def test_a_job_cannot_fill_memory_through_them(jobs: Jobs) -> None:
    sizes = {path: int(size[1:]) for path, size in ask(jobs, "try_paths", "size", *PRIVATE).items()}
    assert sizes == {path: 64 << 20 if path == "/run" else 1 << 30 for path in PRIVATE}


def test_a_full_scratch_directory_is_full_in_its_job_alone(jobs: Jobs) -> None:
    script = """
    dd if=/dev/zero of=/tmp/a bs=64k
    seq -f /tmp/%g 2000 | xargs touch
    ls /tmp | wc -l
    stat -c %s /tmp/a
    """
    job = jobs.run(["sh", "-c", script], tmpfs=["/tmp:1M"])
    assert b"No space left on device" in job.stderr
    count, size = map(int, job.stdout.split())
    assert size <= 1 << 20
    assert count < 1100, "inodes are memory too"
    with open("/tmp/of-the-host", "wb") as file:
        file.write(bytes(2 << 20))
    os.unlink("/tmp/of-the-host")
