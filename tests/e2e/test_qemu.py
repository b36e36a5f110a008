"""vagrant/qemu promises what vagrant/guest does (test_guest.py), with another kernel.

Six seconds a boot, so each test asks several questions.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

QEMU = str(Path(__file__).parents[2] / "vagrant" / "qemu")

pytestmark = pytest.mark.requires("root", "qemu")


def _qemu(script: str, *options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [QEMU, "--timeout", "100", *options, "--cwd", "/", "--", "sh", "-c", script],
        input=stdin, capture_output=True, check=False, timeout=200,
    )  # fmt: skip


def test_streams_status_and_shared_directories_and_what_a_command_sees(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    script = f"""
        {{ nproc; uname -r; cat /sys/fs/cgroup/cgroup.controllers; echo $JOBSUP_GUEST $GIVEN
        cat /sys/block/vda/size; touch /etc/guest-was-here; }} > {tmp_path}/seen
        setsid sleep 1000 &
        tee /dev/stderr; exit 42"""
    ended = _qemu(
        script, "--rw", str(tmp_path), "--disk", str(disk), "--env", "GIVEN=1", stdin=data
    )
    assert ended.returncode == 42
    assert ended.stdout == data
    assert ended.stderr == data
    processors, release, controllers, said, size = (tmp_path / "seen").read_text().splitlines()
    assert (processors, said, size) == ("2", "qemu 1", "2048")
    assert "cloud-amd64" in release
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers.split())
    assert not Path("/etc/guest-was-here").exists()


def test_a_guest_that_dies_and_one_that_takes_too_long() -> None:
    died = _qemu("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 9")
    assert died.returncode == 125
    assert b"panic" in died.stderr
    late = _qemu("sleep 100", "--timeout", "2")
    assert late.returncode == 124
    assert b"no end within 2 s" in late.stderr
