"""jobsup as a service: installed, restarted, hung, stopped and removed while jobs run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import jobsup
from jobsup.supervisor.systemd import DIRECTORY, UNITS, install, text, uninstall
from tests.kernel.inside import Portrait, place, portrait
from tests.kernel.jobs import Jobs, program
from tests.machine import JOBSUP, PATIENCE, Leaf, leaves, wait_ended
from tests.systemd.manager import DAEMON, KEEPER, KEEPER_GROUP, journal, main_pid, shown, systemctl

LIB, RUN = Path("/var/lib/jobsup"), Path("/run/jobsup")
NUMBERS = "".join(f"{n}\n" for n in range(1, 20_001)).encode()


@pytest.fixture(scope="module")
def service() -> Iterator[None]:
    """jobsup is installed and ready."""
    install()
    yield
    uninstall(force=True, purge=True)


@pytest.fixture
def supervisor(service: None) -> Iterator[jobsup.Supervisor]:
    """Its client; what it started ends with the test."""
    with jobsup.connect() as connected:
        yield connected
        for job in connected.jobs():
            connected.job(job.id).remove(force=True)


class Gate:
    """What jobs wait at, each at a pipe of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pipes: list[int] = []

    def wait(self) -> str:
        """Shell that ends when the gate opens."""
        pipe = self.directory / str(len(self._pipes))
        os.mkfifo(pipe)
        self._pipes.append(os.open(pipe, os.O_RDWR))  # both ends: no open of it ever blocks
        return f"read x <{pipe}; "

    def open(self) -> None:
        for pipe in self._pipes:
            os.write(pipe, b"\n")

    def close(self) -> None:
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with place() as directory:
        gate = Gate(directory)
        yield gate
        gate.close()


def started(supervisor: jobsup.Supervisor, script: str, **options: Any) -> jobsup.Job:  # noqa: ANN401
    """A job of a shell script, that has begun."""
    job = supervisor.start(["sh", "-c", "echo up; " + script], cwd="/", **options)
    assert next(iter(job.output(follow=True))).startswith(b"up\n")
    return job


def processes() -> dict[str, list[int]]:
    """Those of every job."""
    return {name: Leaf.of(name).processes() for name in leaves()}


@contextmanager
def pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, to its end."""
    return subprocess.run(
        [*JOBSUP, *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE
    )


# ---- the service itself


def test_it_is_ready_when_install_returns(service: None) -> None:
    done = command("ping")
    assert done.returncode == 0, done.stderr
    assert systemctl("is-enabled", DAEMON) == "enabled"
    assert shown(DAEMON, "ActiveState") == "active"


def test_systemd_finds_nothing_wrong_with_the_units(service: None) -> None:
    paths = [str(DIRECTORY / unit) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *paths], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interpreter_of_an_odd_path_is_found(service: None) -> None:
    """In a unit "%" begins a specifier, and a space ends a word."""
    with place() as directory:
        odd = directory / "a b %n $HOME {x}; ü"
        odd.symlink_to("/bin/true")
        unit = Path("/run/systemd/system/odd.service")
        unit.write_text(text(DAEMON, str(odd)).replace("Type=notify", "Type=oneshot"))
        systemctl("daemon-reload")
        assert f"path={odd} ;" in shown("odd.service", "ExecStart")
        unit.unlink()
        systemctl("daemon-reload")


def test_the_daemon_has_no_namespace_and_no_filter_that_jobs_would_get(service: None) -> None:
    daemon = Path(f"/proc/{main_pid()}")
    ours = {path.name: os.readlink(path) for path in Path("/proc/1/ns").iterdir()}
    assert {name: os.readlink(daemon / "ns" / name) for name in ours} == ours
    status = dict(line.split(":\t", 1) for line in (daemon / "status").read_text().splitlines())
    assert (status["Seccomp"], status["Umask"]) == ("0", "0077")
    assert (daemon / "oom_score_adj").read_text() == "-900\n"


def test_nobody_else_can_look_into_its_directories(service: None) -> None:
    assert (RUN.stat().st_mode & 0o777, LIB.stat().st_mode & 0o777) == (0o711, 0o700)
    assert {RUN.stat().st_uid, LIB.stat().st_uid} == {0}


# ---- what a job sees of it


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[Path]:
    """The socket of a daemon that a shell started."""
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(tmp_path / "notify"))
    ready.settimeout(PATIENCE)
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    daemon = subprocess.Popen([*JOBSUP, "serve", "--state", str(tmp_path)], env=environment)
    while b"READY=1" not in ready.recv(4096).splitlines():
        pass
    yield tmp_path / "run" / "jobsup.sock"
    daemon.terminate()
    assert daemon.wait(PATIENCE) == 0
    ready.close()


def seen(jobs: Jobs, **options: Any) -> dict[str, object]:  # noqa: ANN401
    """All that a job sees of its own that is not its own alone."""
    found: Portrait = portrait(jobs, **options)
    varying = ("Vm", "Rss", "SigQ", "voluntary", "nonvoluntary")
    environment = found.environment()
    del environment["JOBSUP_JOB_ID"]
    mounts = [line.split() for line in found["mountinfo"].splitlines()]
    return {
        "status": [line for line in found["status"].splitlines() if not line.startswith(varying)],
        "limits": found.limits(),
        "environment": environment,
        "mounts": [mount[3:] for mount in mounts],  # not their numbers
        "scheduling": [found.stat(field) for field in (18, 19, 40, 41)],
        "terminal": found.stat(7),
        **{name: found[name] for name in ("cgroup", "oom_score_adj", "net/dev")},
    }


@pytest.mark.parametrize("options", [{}, {"user": "65534"}], ids=["root", "nobody"])
def test_a_job_sees_what_it_sees_under_a_daemon_of_a_shell(
    supervisor: jobsup.Supervisor, by_hand: Path, jobs_only: Jobs, options: dict[str, str]
) -> None:
    under_the_unit = seen(jobs_only, socket=RUN / "jobsup.sock", **options)
    assert under_the_unit == seen(jobs_only, socket=by_hand, **options)


@pytest.fixture
def jobs_only(tmp_path: Path) -> Iterator[Jobs]:
    """The command line, whose end leaves the keeper alone."""
    runner = Jobs(tmp_path)
    yield runner
    runner.close()


def test_the_daemons_lack_of_a_network_is_not_the_jobs(
    supervisor: jobsup.Supervisor, jobs_only: Jobs
) -> None:
    """IPAddressDeny= and DevicePolicy= hold for a cgroup, and jobs are born in another."""
    assert set(shown(DAEMON, "IPAddressDeny").split()) == {"::/0", "0.0.0.0/0"}
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ended = jobs_only.run(
        ["bash", "-c", f"echo hello >/dev/tcp/127.0.0.1/{port}"],
        net="host", socket=RUN / "jobsup.sock",
    )  # fmt: skip
    assert ended.status == 0, ended.stderr
    with listener, listener.accept()[0] as connection:
        assert connection.recv(64) == b"hello\n"


# ---- it goes and comes back, and jobs go on


def test_a_restart_leaves_jobs_alone(supervisor: jobsup.Supervisor, gate: Gate) -> None:
    writer = started(supervisor, gate.wait() + "seq 20000; exit 7", rw=str(gate.directory))
    hog = " ".join(program("memory_hog", 256 << 20))
    hungry = started(supervisor, gate.wait() + hog, rw=str(gate.directory), mem="64M")
    before, daemon = processes(), main_pid()

    systemctl("restart", DAEMON)
    assert main_pid() != daemon
    assert processes() == before
    gate.open()

    assert writer.wait().exit_code == 7
    assert b"".join(writer.output()) == b"up\n" + NUMBERS
    assert hungry.wait().cause == "memory"


def test_what_was_written_while_it_was_stopped_is_there(
    supervisor: jobsup.Supervisor, gate: Gate
) -> None:
    job = started(supervisor, gate.wait() + "seq 20000; exit 3", rw=str(gate.directory))
    (pids,) = processes().values()
    with pidfd(pids[0]) as ended:
        systemctl("stop", DAEMON)
        assert RUN.is_dir(), "the inits' sockets lie in it"
        gate.open()
        wait_ended(ended)
        systemctl("start", DAEMON)
    assert job.wait().exit_code == 3
    assert b"".join(job.output()) == b"up\n" + NUMBERS


def test_installing_again_restarts_the_daemon_alone(
    supervisor: jobsup.Supervisor, gate: Gate
) -> None:
    job = started(supervisor, gate.wait(), rw=str(gate.directory))
    before, daemon, keeper = processes(), main_pid(), shown(KEEPER, "MainPID")
    done = command("install")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{DAEMON} is enabled, and ready"
    assert main_pid() != daemon
    assert (processes(), shown(KEEPER, "MainPID")) == (before, keeper)
    gate.open()
    assert job.wait().exit_code == 0


@pytest.fixture
def impatient(service: None) -> Iterator[None]:
    """A watchdog of two seconds."""
    drop_in = Path(f"/run/systemd/system/{DAEMON}.d/test.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    systemctl("daemon-reload")
    systemctl("restart", DAEMON)
    yield
    drop_in.unlink()
    drop_in.parent.rmdir()
    systemctl("daemon-reload")


def test_a_daemon_that_hangs_is_replaced_and_jobs_go_on(
    impatient: None, supervisor: jobsup.Supervisor, gate: Gate
) -> None:
    job = started(supervisor, gate.wait() + "exit 5", rw=str(gate.directory))
    before, daemon = processes(), main_pid()
    with pidfd(daemon) as hung:
        signal.pidfd_send_signal(hung, signal.SIGSTOP)
        wait_ended(hung)
    systemctl("start", DAEMON)  # returns when the new one, which is on its way, is ready
    assert main_pid() not in (0, daemon)
    assert processes() == before
    gate.open()
    assert job.wait().exit_code == 5
    said = [entry["MESSAGE"] for entry in journal(DAEMON)]
    assert any("Watchdog timeout" in line for line in said)
    assert "Fatal Python error: Aborted" in said, "where it hung is told"


def test_a_killed_daemon_comes_back(supervisor: jobsup.Supervisor, gate: Gate) -> None:
    job = started(supervisor, gate.wait() + "exit 6", rw=str(gate.directory))
    with pidfd(main_pid()) as daemon:
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        wait_ended(daemon)
    systemctl("start", DAEMON)
    gate.open()
    assert job.wait().exit_code == 6


def test_jobs_that_a_shutdown_ended_are_not_lost(supervisor: jobsup.Supervisor, gate: Gate) -> None:
    """At shutdown the daemon stops first, then the keeper, with every job in it."""
    job = started(supervisor, gate.wait(), rw=str(gate.directory))
    systemctl("stop", DAEMON, KEEPER)
    systemctl("start", DAEMON)
    verdict = job.wait()
    assert (verdict.cause, verdict.signal) == ("signaled", "SIGTERM")


# ---- what it leaves behind


def test_the_journal_has_its_lines_with_their_levels(service: None) -> None:
    entries = [entry for entry in journal(DAEMON) if entry["_PID"] == str(main_pid())]
    (ready,) = (entry for entry in entries if entry["MESSAGE"].startswith("ready "))
    assert (ready["PRIORITY"], ready["SYSLOG_IDENTIFIER"]) == ("6", "jobsup")
    assert all(entry["MESSAGE"].isprintable() for entry in entries)


def test_uninstalling_refuses_to_end_jobs(supervisor: jobsup.Supervisor, gate: Gate) -> None:
    job = started(supervisor, gate.wait(), rw=str(gate.directory))
    done = command("uninstall")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("jobsup: jobs are running, which would end\nhint: ")
    gate.open()
    assert job.wait().exit_code == 0


def test_uninstalling_leaves_nothing(service: None, gate: Gate) -> None:
    """The last test of this module."""
    with jobsup.connect() as supervisor:
        started(supervisor, gate.wait(), rw=str(gate.directory))
    with pidfd(main_pid()) as daemon:
        uninstall(force=True, purge=True)
        wait_ended(daemon)
    for left in (LIB, RUN, KEEPER_GROUP, *(DIRECTORY / unit for unit in UNITS)):
        assert not left.exists(), left
    assert systemctl("list-units", "--all", "--plain", "--no-legend", "jobsup*") == ""
    assert not list(DIRECTORY.rglob("*jobsup*")), "links of systemctl enable"
