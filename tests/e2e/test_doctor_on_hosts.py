"""Doctor on hosts that lack something for everybody: each a guest that was booted or set so.

What can be taken from doctor alone, without harm to the host that runs the tests, is in
tests/kernel/test_doctor.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor_told import Told

REPO = Path(__file__).parents[2]
GUEST = str(REPO / "vagrant" / "guest")
DOCTOR = f"{sys.executable} -I -B -m jobsup doctor"

pytestmark = pytest.mark.requires("root")


def guest(script: str, *options: str) -> str:
    """What a shell script says in a guest."""
    ended = subprocess.run(
        [GUEST, "--timeout", "100", "--ro", str(REPO), *options, "--", "sh", "-ec", script],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=REPO,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


# One doctor: its JSON, and its exit status on a line of its own.
ASK = f"status=0; {DOCTOR} --json || status=$?; echo $status\n"


def doctors(script: str, *options: str) -> list[Told]:
    """The answers of a script of ASKs, in their order."""
    lines = guest(script, *options).splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [Told.parse(text, int(status)) for text, status in pairs]


def doctor(*options: str) -> Told:
    (told,) = doctors(ASK, *options)
    return told


def test_a_fresh_guest_has_everything_but_cpuset_and_no_group_is_left_there() -> None:
    before, answer, status, after = guest(
        f"find /sys/fs/cgroup -type d; {ASK} find /sys/fs/cgroup -type d"
    ).splitlines()
    assert (before, after) == ("/sys/fs/cgroup", "/sys/fs/cgroup")
    findings = json.loads(answer)["findings"]
    assert (status, json.loads(answer)["ok"]) == ("0", True)
    not_there = [finding for finding in findings if not finding["ok"]]
    assert not_there == [
        {
            "name": "controller cpuset",
            "ok": None,
            "found": "this kernel does not have it (needed by --cpuset)",
            "remedy": "use a kernel with CONFIG_CPUSETS=y",
        }
    ]


UNIFIED = "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"


def test_a_hybrid_host() -> None:
    told = doctor("--cgroup", "hybrid")
    told.says("cgroup v2", True, "at /sys/fs/cgroup/unified", "")
    told.says("cgroup v1", False, "holds cpu, io, memory, pids", UNIFIED)
    told.says("controller pids", False, "cgroup v1 holds it (needed by every job)", UNIFIED)
    for name, flag in (("memory", "--mem"), ("cpu", "--cpus"), ("io", "--io-max")):
        told.says(f"controller {name}", None, f"cgroup v1 holds it (needed by {flag}", UNIFIED)
    assert told.missing() == {"cgroup v1", "controller pids"}


def test_a_run_on_a_hybrid_host_is_refused_with_all_that_is_missing_in_two_lines() -> None:
    said = guest(
        f"{sys.executable} -I -B -m jobsup run --cwd / --mem 64M --cpus 1 -- true 2>&1 || echo $?\n"
        "find /sys/fs/cgroup -name jobsup",
        "--cgroup", "hybrid",
    )  # fmt: skip
    assert said.splitlines() == [
        "jobsup: memory.max cannot be enforced: cgroup v1 holds the controllers cpu, memory, pids",
        f"hint: boot with cgroup v2 alone (kernel arguments {UNIFIED}), or use ./run in a "
        "checkout, which brings a kernel",
        "125",
    ]


def test_a_host_without_cgroups() -> None:
    told = doctor("--cgroup", "none")
    told.says("cgroup v2", False, "not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    told.says("cgroup v1", True, "holds no controller", "")
    told.says("controller pids", False, "no cgroup v2", "first: cgroup v2")
    told.says("init", False, "no cgroup v2", "first: cgroup v2")
    assert told.findings["namespace pid"][0] is True


def test_controllers_and_pressure_switched_off_at_boot() -> None:
    told = doctor("--append", "cgroup_disable=pids,memory,blkio psi=0")
    for name, v1_name in (("pids", "pids"), ("memory", "memory"), ("io", "blkio")):
        ok = False if name == "pids" else None
        remedy = f"remove cgroup_disable={v1_name} from the kernel command line"
        told.says(f"controller {name}", ok, "booted without it", remedy)
    told.says("pressure (PSI)", None, "No such file", "boot with psi=1")
    assert told.missing() == {"controller pids"}


def test_the_packaged_kernel_runs_jobs_without_pressure() -> None:
    told = doctor("--kernel", "packaged")
    told.says("pressure (PSI)", None, "/proc/pressure/memory", "CONFIG_PSI=y")
    assert (told.status, told.missing()) == (0, set())


NAMESPACES = ("pid", "mnt", "net", "uts", "ipc", "cgroup", "user")


def test_namespaces_that_may_not_be_made_any_more() -> None:
    kinds = " ".join(NAMESPACES)
    few, none = doctors(
        f"for n in {kinds}; do echo 100 > /proc/sys/user/max_${{n}}_namespaces; done; {ASK}"
        f"for n in {kinds}; do echo 0 > /proc/sys/user/max_${{n}}_namespaces; done; {ASK}"
    )
    few.says("jobs at once", None, "allows 100", "sysctl -w user.max_pid_namespaces=65536")
    assert few.missing() == set()
    for name in NAMESPACES:
        ok = None if name == "user" else False
        remedy = f"sysctl -w user.max_{name}_namespaces=65536"
        none.says(f"namespace {name}", ok, "unshare: No space left on device", remedy)
    none.says("init", False, "clone3 of the init: No space left", "namespaces")


def test_sysctls_that_limit_jobs() -> None:
    executable, forbidden, few = doctors(
        f"echo 1 > /proc/sys/vm/memfd_noexec; {ASK}"
        f"echo 2 > /proc/sys/vm/memfd_noexec; {ASK}"
        f"echo 1000 > /proc/sys/kernel/pid_max; {ASK}"
    )
    executable.says("memfd", True, "executed", "")
    forbidden.says("memfd", None, "not to be executed", "sysctl -w vm.memfd_noexec=1")
    forbidden.says("init", True, "executed", "")
    few.says("processes", None, "kernel.pid_max leaves jobs 875", "sysctl -w kernel.pid_max=32768")
    assert few.missing() == set()


def test_a_systemd_that_does_not_answer_and_one_without_systemd_run() -> None:
    silent, absent = doctors(
        f"mkdir -p /run/systemd/system; printf '#!/bin/sh\\necho no bus >&2; exit 1\\n' > /tmp/no\n"
        "chmod +x /tmp/no; mkdir /tmp/bin; cp /tmp/no /tmp/bin/systemctl\n"
        "printf '#!/bin/sh\\necho systemd 252\\n' > /tmp/bin/systemd-run; chmod +x /tmp/bin/*\n"
        f"PATH=/tmp/bin:$PATH; {ASK} PATH=/tmp; {ASK}"
    )
    silent.says("groups", False, "systemd does not answer: no bus", "systemctl must work")
    absent.says("groups", False, "no systemd-run in PATH", "apt-get install systemd")
