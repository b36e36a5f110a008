"""A host that cannot hold a job to its limits refuses it, says what is missing and what to do, and
is left as it was. So is any host that is asked for what cannot be.

Each host is a guest of its own, fresh from its boot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parents[2]
GUEST = REPO / "vagrant" / "guest"
JOBSUP = [sys.executable, "-I", "-B", "-m", "jobsup"]

pytestmark = pytest.mark.requires("root")


class Said(NamedTuple):
    status: int
    stdout: str
    stderr: str


def attempts(commands: list[list[str]], *options: str, before: str = ":") -> list[Said]:
    """What became of each command line in one guest; fails when one of them left anything behind.

    A refusal costs no job, so there can be many in a boot.
    """
    program = """if 1:
    import json, os, subprocess, sys
    def made():
        found = [path for path in ("/run/jobsup", "/var/lib/jobsup") if os.path.exists(path)]
        return found + [place for place, _, _ in os.walk("/sys/fs/cgroup")] + os.listdir("/srv")
    before, answers = made(), []
    for argv in json.load(sys.stdin):
        done = subprocess.run(argv, capture_output=True, text=True)
        answers.append([done.returncode, done.stdout, done.stderr])
        assert made() == before, (argv, set(made()) - set(before))
    json.dump(answers, sys.stdout)
    """
    clean = f"umount /var/lib 2>/dev/null; mount -t tmpfs none /var/lib; {before}"
    done = subprocess.run(
        [GUEST, "--timeout", "100", "--ro", REPO, *options, "--",
         "sh", "-c", f'{clean}; exec "$@"', "sh", sys.executable, "-c", program],
        input=json.dumps(commands), capture_output=True, text=True, check=False, cwd=REPO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Said(*answer) for answer in json.loads(done.stdout)]


def run(*arguments: str) -> list[str]:
    return [*JOBSUP, "run", "--cwd", "/", *arguments]


def refused(said: Said, *words: str) -> None:
    """Nothing ran, and the one error on stderr has these words."""
    assert (said.status, said.stdout) == (125, ""), said
    assert "Traceback" not in said.stderr
    for word in words:
        assert word in said.stderr, said.stderr


ECHO = ["--", "echo", "ran"]


def test_a_hybrid_host_names_the_controllers_and_the_remedy() -> None:
    plain, limited = attempts(
        [run(*ECHO), run("--mem", "64M", "--cpus", "1", *ECHO)], "--cgroup", "hybrid"
    )
    for said in (plain, limited):
        refused(said, "cgroup v1 holds", "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all")
    refused(plain, "pids.max cannot be enforced", "pids")
    refused(limited, "memory.max cannot be enforced", "cpu, memory, pids")


def test_a_host_without_cgroup_v2_says_so() -> None:
    (said,) = attempts([run(*ECHO)], "--cgroup", "none")
    refused(said, "no cgroup v2 hierarchy is mounted", "systemd.unified_cgroup_hierarchy=1")


def test_a_kernel_without_a_controller_names_it() -> None:
    (said,) = attempts([run("--cpuset", "0", *ECHO)])
    refused(said, "cpuset.cpus cannot be enforced", "cpuset")


def test_a_cgroup_that_cannot_be_written_is_named() -> None:
    """As in a container that was not given its own."""
    (said,) = attempts([run(*ECHO)], before="mount -o remount,ro /sys/fs/cgroup")
    refused(said, "/sys/fs/cgroup", "Read-only file system")


def test_who_is_not_root_is_told_so() -> None:
    """One who may read everything, since the Python may lie where only root comes."""
    user = "setpriv --reuid=65534 --clear-groups --inh-caps=+dac_read_search".split()
    (said,) = attempts([[*user, "--ambient-caps=+dac_read_search", *run(*ECHO)]])
    refused(said, "only root can build a job's walls", "sudo")


def test_a_dry_run_needs_no_cgroup_v2() -> None:
    (said,) = attempts([run("--dry-run", "--mem", "64M", *ECHO)], "--cgroup", "none")
    assert said.status == 0, said.stderr
    assert "set memory.max to 67108864" in said.stdout
    assert "execute echo" in said.stdout


# Each a flag and a value that cannot be.
BAD = [
    *(("--mem", value) for value in ("-1", "0", "nan", "256X", "", "18446744073709551616")),
    *(("--cpus", value) for value in ("-1", "nan", "inf", "")),
    *(("--pids", value) for value in ("-1", "1.5", "18446744073709551616", "")),
    *(("--time", value) for value in ("-1", "nan", "1x", "")),
    *(("--output-max", value) for value in ("-1", "256X")),
    *(("--user", value) for value in ("-1", "4294967295", "1000x", "", "no-such")),
    *(("--group", value) for value in ("4294967296", "1000x")),
    *(("--io-max", value) for value in ("/", "/:wbps=-1", "/no/such:wbps=1M", "")),
    *(("--rw", value) for value in ("/no/such", "", "/:/proc", "/proc/self/fd/0")),
    *(("--ro", value) for value in ("/etc:/sys", "/run/jobsup")),
    *(("--root", value) for value in ("/no/such", "", "/var/lib/jobsup")),
    *(("--cwd", value) for value in ("", "/proc/self/fd/3")),
    *(("--cgroup", value) for value in ("memory.max", "../x=1", "cgroup.procs=1")),
    ("--cpu-weight", "10001"),
    ("--oom-score-adj", "-1001"),
    ("--cap", "no_such"),
    ("--rlimit", "nofile=2:1"),
    ("--env", "=x"),
    ("--tmpfs", "/"),
    ("--net", "bridged"),
    ("--hostname", "a b"),
    ("--output-full", "lose"),
]


def test_every_bad_value_is_refused_by_its_flag_before_anything_is_made() -> None:
    commands = [run(f"{flag}={value}", *ECHO) for flag, value in BAD]
    for (flag, _), said in zip(BAD, attempts(commands), strict=True):
        refused(said, flag)


def test_this_very_host_is_used_or_refused_and_not_changed() -> None:
    if (
        subprocess.run([REPO / "tools/host-ready"], capture_output=True, check=False).returncode
        == 0
    ):
        return  # jobs run here, and the kernel tests with them
    places = ("/run/jobsup", "/var/lib/jobsup", "/sys/fs/cgroup/jobsup")
    before = [os.path.exists(place) for place in places]
    done = subprocess.run(run("--mem", "64M", *ECHO), capture_output=True, text=True, check=False)
    refused(Said(done.returncode, done.stdout, done.stderr), "hint:")
    assert [os.path.exists(place) for place in places] == before
