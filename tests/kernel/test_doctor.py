"""Doctor on a real kernel: what it tells where something is missing, and that it changes nothing.

What is missing here is taken from doctor alone: by a seccomp filter (tests/programs/without.py),
by capabilities, in mounts and cgroups of its own. The kernels and hosts that lack things for
everybody are in tests/e2e/test_doctor.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsup.isolation import find_mount, open_hierarchy
from tests.doctor_told import Told
from tests.kernel.jobs import Jobs, program
from tests.machine import JOBSUP

NAMESPACES = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}


def doctor(*wrapper: str) -> Told:
    """Doctor, as a command of `wrapper`."""
    ended = subprocess.run(
        [*wrapper, *JOBSUP, "doctor", "--json"], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    return Told.parse(ended.stdout, ended.returncode)


def without(*words: str) -> list[str]:
    return [*program("without", *words), "--"]


def shell(script: str, *unshared: str) -> list[str]:
    """A wrapper: `script` in namespaces of its own, then the command that follows."""
    return ["unshare", *unshared, "sh", "-ec", f'{script}\nexec "$@"', "sh"]


# ---- a host that has it all


def test_a_host_that_runs_jobs_is_told_so() -> None:
    told = doctor()
    assert (told.status, told.ok, told.missing()) == (0, True, set())
    for name in NAMESPACES:
        assert told.findings[f"namespace {name}"][0] is True


def test_every_remedy_is_for_something_that_is_missing() -> None:
    for name, (ok, found, remedy) in doctor().findings.items():
        assert found, name
        assert (remedy is None) == (ok is True), name


def test_nothing_of_the_host_is_changed() -> None:
    before = host_state()
    doctor()
    assert host_state() == before


def test_nothing_is_changed_where_jobs_ran_and_a_sweep_meets_no_trial(jobs: Jobs) -> None:
    jobs.run(["true"])
    before = host_state()
    told = doctor()
    assert host_state() == before
    assert told.findings["memory.peak"][:2] == (True, "there")
    assert told.findings["controller memory"][1] == "enabled for jobs"


def host_state() -> dict[str, str]:
    """Our cgroups with what is enabled in them and at the top (others' may change meanwhile), the
    mounts, the file systems that are loaded, and the knobs that doctor talks of."""
    mount = Path(find_mount())
    ours = [path for path in mount.rglob("cgroup.subtree_control") if "jobsup" in str(path)]
    knobs = [*Path("/proc/sys/user").iterdir(), Path("/proc/sys/kernel/pid_max")]
    others = [Path("/proc/self/mountinfo"), Path("/proc/filesystems")]
    files = [mount / "cgroup.subtree_control", *ours, *knobs, *others]
    return {str(path): path.read_text() for path in files}


# ---- the kernel and our rights


def test_an_old_kernel_that_has_what_is_needed_is_a_warning() -> None:
    told = doctor("setarch", "--uname-2.6")
    told.says("kernel", None, "Linux 2.6", "use Linux 5.14 or newer")
    assert told.missing() == set()


def test_an_old_kernel_without_cgroup_kill() -> None:
    told = doctor("setarch", "--uname-2.6", *without("file", "cgroup.kill"))
    told.says("kernel", False, "Linux 2.6", "use Linux 5.14 or newer")
    told.says("cgroup.kill", False, "No such file", "use Linux 5.14 or newer")


def test_who_is_not_root_is_told_what_can_be_read() -> None:
    # may still read the checkout, wherever it lies
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    told = doctor("setpriv", "--reuid=65534", "--clear-groups", *reading)
    told.says("root", False, "uid 65534", "sudo jobsup doctor")
    assert told.missing() == {"root"}
    assert "controller pids" in told.findings
    assert "namespace pid" not in told.findings


NEEDED = (
    "chown dac_override fowner fsetid kill setgid setuid net_bind_service sys_admin mknod"
    " net_admin setpcap"
).split()


def test_capabilities_without_which_no_job_runs(jobs: Jobs) -> None:
    dropped = ",".join(f"-{name}" for name in NEEDED)
    told = doctor("setpriv", f"--bounding-set={dropped}")
    assert not told.ok
    _, found, remedy = told.findings["capabilities"]
    assert found.removeprefix("no ").split(", ") == sorted(NEEDED)
    for name in NEEDED:
        assert f"--cap-add {name.upper()} " in (remedy or "")
        assert jobs.run(["true"], wrapper=["setpriv", f"--bounding-set=-{name}"]).status == 125


def test_a_capability_without_which_some_options_do_not_work() -> None:
    told = doctor("setpriv", "--bounding-set=-sys_resource")
    told.says("capabilities", None, "no sys_resource", "CAP_SYS_RESOURCE")
    assert told.missing() == set()


# ---- what the kernel does not have, or something forbids


def test_namespaces_that_the_kernel_was_built_without() -> None:
    words = [f"call unshare:{flag:#x} EINVAL" for flag in NAMESPACES.values()]
    told = doctor(*without(*" ".join(words).split()))
    for name in NAMESPACES:
        option = {"mnt": "NAMESPACES", "cgroup": "CGROUPS"}.get(name, f"{name.upper()}_NS")
        ok = None if name == "user" else False
        told.says(f"namespace {name}", ok, "Invalid argument", f"CONFIG_{option}=y")
    told.says("root mount", False, "not tried without a mnt namespace", "first: the namespace")


def test_nothing_is_mounted_without_a_mount_namespace() -> None:
    before = host_state()
    doctor(*without("call", f"unshare:{NAMESPACES['mnt']:#x}", "EINVAL"))
    assert host_state() == before


def test_namespaces_that_a_container_forbids() -> None:
    told = doctor(*without("call", "unshare", "EPERM"))
    for name in NAMESPACES:
        ok = None if name == "user" else False
        told.says(f"namespace {name}", ok, "not permitted", "--privileged")


def test_a_kernel_without_the_new_mount_calls() -> None:
    calls = "open_tree mount_setattr fsopen fsconfig fsmount move_mount openat2 close_range".split()
    told = doctor(*without(*" ".join(f"call {call} ENOSYS" for call in calls).split()))
    for call in calls:
        told.says("mount calls", False, f"{call}: Function not impl", "use Linux 5.14 or newer")
    told.says("file system proc", False, "fsopen: Function not", "use Linux 5.14 or newer")
    told.says("root mount", False, "open_tree: Function not", "use Linux 5.14 or newer")


def test_file_systems_that_the_kernel_was_built_without() -> None:
    options = {
        "tmpfs": "TMPFS",
        "proc": "PROC_FS",
        "sysfs": "SYSFS",
        "devpts": "UNIX98_PTYS",
        "mqueue": "POSIX_MQUEUE",
    }
    told = doctor(*without(*" ".join(f"type {kind} ENODEV" for kind in options).split()))
    for kind, option in options.items():
        told.says(f"file system {kind}", False, "fsopen: No such device", f"CONFIG_{option}=y")


def test_calls_that_are_not_there_are_named_with_their_remedy() -> None:
    told = doctor(*without(*"call clone3 ENOSYS call seccomp EINVAL call mknodat EPERM".split()))
    told.says("init", False, "clone3 of the init: Function not implemented", "Linux 5.7 or newer")
    told.says("seccomp", None, "seccomp: Invalid argument", "CONFIG_SECCOMP_FILTER=y")
    told.says("device nodes", False, "mknod /dev/null: Operation not permitted", "CAP_MKNOD")


def test_an_init_that_cannot_be_executed() -> None:
    told = doctor(*without(*"call execveat EACCES".split()))
    told.says("init", False, "executing the init: Permission denied", "vm.memfd_noexec")


def test_a_kernel_without_memfd() -> None:
    told = doctor(*without(*"call memfd_create ENOSYS".split()))
    told.says("memfd", False, "memfd of the plan: Function not", "CONFIG_MEMFD_CREATE=y")


def test_a_loopback_that_may_not_be_brought_up() -> None:
    told = doctor("setpriv", "--bounding-set=-net_admin")
    told.says("loopback", False, "lo: Operation not permitted", "--privileged")


def test_trials_that_cannot_be_made() -> None:
    told = doctor(*without("file", "trials.py"))
    told.says("trials", False, "No such file", "")


def test_a_kernel_without_pressure() -> None:
    told = doctor(*without("file", "memory"))
    told.says("pressure (PSI)", None, "No such file", "psi=1")


def test_an_init_that_was_not_built() -> None:
    told = doctor(*without("file", "_init"))
    told.says("memfd", False, "No such file", "build the C parts")
    told.says("init", False, "No such file", "build the C parts")


def test_files_of_a_group_that_the_kernel_does_not_have(jobs: Jobs) -> None:
    jobs.run(["true"])
    told = doctor(*without("file", "memory.peak", "file", "memory.swap.max"))
    told.says("memory.peak", None, "missing", "use Linux 5.19")
    told.says("memory.swap.max", None, "missing (needed by --mem)", "CONFIG_SWAP=y")
    assert told.missing() == set()


# ---- mounts


def test_a_chroot_whose_root_is_no_mount_point(tmp_path: Path, jobs: Jobs) -> None:
    script = f"""
        mount -t tmpfs none {tmp_path}; mkdir {tmp_path}/new; cd {tmp_path}/new
        for d in /*; do
            if [ -L $d ]; then cp -P $d .
            elif [ -d $d ]; then mkdir .$d; mount --rbind $d .$d; fi
        done
        set -- chroot . "$@"
    """
    wrapper = shell(script, "--mount")
    told = doctor(*wrapper)
    told.says("root mount", False, "Invalid argument", "mount --bind DIR DIR")
    assert jobs.run(["true"], wrapper=wrapper).status == 125


def test_a_rootless_container() -> None:
    """Root of a user namespace makes no devices, and mounts no proc that shows more than its own
    does."""
    hide = shell("mount -t tmpfs none /proc/fs", "--mount")
    told = doctor(*hide, "unshare", "--user", "--map-root-user", "--mount")
    told.says("device nodes", False, "/dev/null: ", "CAP_MKNOD")
    told.says("file system proc", False, "Operation not permitted", "systempaths=unconfined")


def test_no_overlay(tmp_path: Path) -> None:
    listed = tmp_path / "filesystems"
    listed.write_text("nodev\tproc\n")
    script = f"""
        mount --bind {listed} /proc/filesystems
        [ ! -d /lib/modules ] || mount -t tmpfs none /lib/modules
    """
    told = doctor(*shell(script, "--mount"))
    told.says("overlayfs", None, "missing", "CONFIG_OVERLAY_FS=y")


# ---- cgroups


def test_no_cgroup_v2_mounted() -> None:
    told = doctor(*shell(f"umount --lazy {find_mount()}", "--mount"))
    told.says("cgroup v2", False, "not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    told.says("controller pids", False, "no cgroup v2", "first: cgroup v2")
    told.says("controller memory", None, "needed by --mem", "first: cgroup v2")
    told.says("init", False, "not tried: no cgroup v2", "first: cgroup v2")


# A host without systemd, which makes groups by itself: here too where systemd is.
NO_SYSTEMD = "[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd"


def test_a_read_only_cgroup_file_system() -> None:
    script = f"{NO_SYSTEMD}; mount -o remount,bind,ro {find_mount()}"
    told = doctor(*shell(script, "--mount"))
    told.says("groups", False, "Read-only file system", "remount,rw")


@pytest.fixture
def box() -> Iterator[Path]:
    """A cgroup that a container could be given, in a group that was given all controllers."""
    open_hierarchy()  # enables them at the top
    outer = Path(find_mount(), f"test-box-{os.getpid()}")
    path = outer / "box"
    path.mkdir(parents=True)
    yield path
    path.rmdir()
    outer.rmdir()


def container(box: Path) -> list[str]:
    """A wrapper that is in the box and sees it as the root of all cgroups."""
    enter = ["sh", "-c", f'echo $$ > {box}/cgroup.procs; exec "$@"', "sh"]
    script = f"{NO_SYSTEMD}; umount --lazy {find_mount()}; mount -t cgroup2 none /sys/fs/cgroup"
    return [*enter, *shell(script, "--mount", "--cgroup")]


def test_a_container_is_not_given_controllers(box: Path) -> None:
    told = doctor(*container(box))
    told.says("controller pids", False, "is not given it", "+pids to the cgroup.subtree_control")


def test_a_container_with_processes_in_its_root(box: Path) -> None:
    (box.parent / "cgroup.subtree_control").write_text("+pids +memory")
    told = doctor(*container(box))
    told.says("controller pids", False, "has processes of its own", "move them into a child")
    told.says("controller memory", None, "has processes of its own", "move them into a child")
    told.says("controller cpu", None, "is not given it", "+cpu to the cgroup.subtree_control")


def test_a_container_that_may_make_no_more_groups(box: Path) -> None:
    (box / "cgroup.max.descendants").write_text("0")
    told = doctor(*container(box))
    told.says("groups", False, "temporarily unavailable", "cgroup.max.descendants")
    told.says("jobs at once", None, "cgroup.max.descendants allows 0", "echo 65536 >")


# ---- for people


def test_for_people_it_is_a_line_a_finding_and_a_conclusion() -> None:
    wrapper = without("call", "seccomp", "EINVAL", "file", "cgroup.kill")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(
        [*wrapper, *JOBSUP, "doctor"], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    kill = next(i for i, line in enumerate(lines) if line.startswith("✗ cgroup.kill "))
    assert lines[kill + 1].strip() == "use Linux 5.14 or newer"
    assert any(line.startswith("! seccomp ") for line in lines)
    assert any(line.startswith("✓ namespace pid ") for line in lines)
    assert lines[-1].startswith("Jobs cannot run here: 1 of ")
