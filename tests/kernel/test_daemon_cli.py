"""The command line, the client and the daemon together."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jobsup
from jobsup.cli.core import Core
from jobsup.cli.main import invoke
from tests.kernel.jobs import program, with_grants
from tests.kernel.serving import Daemon, serving
from tests.machine import JOBSUP, PATIENCE

NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # Not below pytest's own directory, which only root may enter.
    with serving(Path("/run") / f"jobsup-test-{os.getpid()}") as found:
        yield found


class Cli:
    """`jobsup ARGUMENTS`, in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = invoke(arguments, Core())
        return (status, *self._capture.readouterr())

    def start(self, *arguments: str) -> str:
        status, out, err = self("start", *arguments)
        assert (status, err) == (0, "")
        return out.strip()


@pytest.fixture
def cli(daemon: Daemon, capfd: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capfd)


@pytest.fixture(autouse=True)
def nothing_left(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Instead of the check of all other tests: the daemon's jobs are over after each."""
    monkeypatch.chdir("/")  # where a job may stand, wherever the checkout lies
    yield
    with daemon.supervisor() as supervisor:
        for job in supervisor.jobs():
            supervisor.job(job.id).remove(force=True)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401
    return subprocess.run(
        [*JOBSUP, *arguments], capture_output=True, timeout=PATIENCE, check=False, **options
    )


# ---- start, out, wait, status


def test_a_job_from_start_to_end(cli: Cli) -> None:
    script = "echo out; echo err >&2; exit 3"
    job = cli.start("--name", "build", "--mem", "32M", "--", "sh", "-c", script)
    assert cli("wait", job) == (3, "", "")
    assert cli("out", "build") == (0, "out\n", "err\n")
    assert cli("out", "--stream", "stderr", job[:14])[1] == "err\n"
    told = json.loads(cli("status", "--json", job)[1])
    assert (told["state"], told["cause"], told["exit_code"], told["status"]) == (
        "failed", "exited", 3, 3,
    )  # fmt: skip
    assert told["limits"]["memory.max"] == str(32 << 20)
    assert "exited with code 3" in cli("explain", job)[1]
    assert job not in cli("ls", "-q")[1]
    assert job in cli("ls", "-aq")[1]


def test_stdin_is_fed_and_output_is_its_bytes(cli: Cli, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "in").write_bytes(data)
    with jobsup.connect() as supervisor, (tmp_path / "in").open("rb") as file:
        for given in (data, tmp_path / "in", file):
            job = supervisor.start(["cat"], stdin=given)
            assert b"".join(job.output("stdout")) == data
        assert supervisor.start(["cat"]).wait().output["stdout_bytes"] == 0


def test_asyncio_does_the_same(daemon: Daemon) -> None:
    async def inside() -> None:
        async with jobsup.aio.connect() as supervisor:
            job = await supervisor.start(["sh", "-c", "echo one; echo two >&2"], name="aio")
            frames = [frame async for frame in job.frames()]
            assert [(frame.stream, frame.data) for frame in frames] == [
                ("stdout", b"one\n"),
                ("stderr", b"two\n"),
            ]
            assert (await job.wait()).state == "completed"
            assert [found.id async for found in supervisor.jobs(name="aio")] == [job.id]
            await job.remove()
            with pytest.raises(jobsup.NoSuchJob):
                await job.status()

    asyncio.run(inside())


def test_out_follows_a_job_through_its_attempts(cli: Cli, daemon: Daemon) -> None:
    script = "echo begun; read line || sleep 0.2; echo over >&2; exit 3"
    job = cli.start("--restart", "on-failure:2", "--", "sh", "-c", script)
    assert cli("out", "--follow", job) == (0, "begun\n" * 3, "over\n" * 3)
    assert cli("wait", job)[0] == 3
    assert cli("out", "--follow", "--attempt", "2", job) == (0, "begun\n", "over\n")
    assert cli("out", "--follow", "--stream", "stdout", job) == (0, "begun\n", "")
    waits = cli.start("--restart", "always", "--", "sh", "-c", "echo ran")
    with daemon.supervisor() as supervisor:
        pieces = supervisor.job(waits).output()
        assert [next(pieces), next(pieces)] == [b"ran\n"] * 2
        assert cli("stop", waits)[0] == 0
        assert set(pieces) <= {b"ran\n"}
    assert cli("out", waits)[1] == "ran\n"


def test_lines_have_times_and_a_tail(cli: Cli) -> None:
    job = cli.start("--", "sh", "-c", "echo one; echo two; echo three")
    cli("wait", job)
    out = cli("out", "--timestamps", "--tail", "2", job)[1]
    stamps, words = zip(*(line.split(" ") for line in out.splitlines()), strict=True)
    assert words == ("two", "three")
    assert all(stamp.endswith("Z") for stamp in stamps)


# ---- what can be done to a job


def test_stop_kill_and_signal(cli: Cli) -> None:
    first, second = (cli.start("--", "sleep", "1000") for _ in range(2))
    assert cli("stop", first) == (0, "", "")
    assert cli("wait", first)[0] == 143
    assert cli("kill", second) == (0, "", "")
    assert cli("wait", second)[0] == 137
    third = cli.start(*with_grants(program("signal_reporter")))
    with jobsup.connect() as supervisor:
        job = supervisor.job(third)
        output = job.output("stdout")
        assert next(output) == b"ready\n"
        assert cli("kill", "-s", "TERM", third)[0] == 0
        assert next(output) == b"SIGTERM\n"
        job.kill()


def test_what_cannot_be_stopped_says_why(cli: Cli) -> None:
    job = cli.start("--", "true")
    cli("wait", job)
    status, _, err = cli("stop", "absent", job)
    assert status == 125
    assert "there is no job absent" in err
    assert "completed" in err


def test_what_is_so_already_is_no_error(cli: Cli) -> None:
    """And what cannot be any more is one."""
    job, live = cli.start("--", "true"), cli.start("--", "sleep", "1000")
    cli("wait", job)
    told = f"jobsup: job {job} has ended (completed): exited with code 0\n"
    for verb in ("stop", "kill"):
        assert cli(verb, job) == (0, "", told)
    for verb in ("pause", "resume", "set --mem 1G", "kill -s HUP"):
        assert cli(*verb.split(), job) == (125, "", told)
    for verb in ("pause", "pause", "resume", "resume", "stop"):
        assert cli(verb, live) == (0, "", "")
    assert cli("stop", live)[0] == 0


def test_pause_set_resume(cli: Cli) -> None:
    job = cli.start("--mem", "64M", "--", "sleep", "1000")
    assert cli("pause", job) == (0, "", "")
    assert json.loads(cli("status", "--json", job)[1])["state"] == "paused"
    assert cli("set", job, "--mem", "32M", "--cpus", "0.5") == (0, "", "")
    told = json.loads(cli("status", "--json", job)[1])
    assert told["limits"]["memory.max"] == str(32 << 20)
    assert cli("set", job, "--mem", "max", "--cpus", "max", "--pids", "max") == (0, "", "")
    told = json.loads(cli("status", "--json", job)[1])["limits"]
    assert (told["memory.max"], told["memory.swap.max"], told["pids.max"]) == ("max",) * 3
    assert told["memory.oom.group"] == "0"
    assert told["cpu.max"].split()[0] == "max"
    assert cli("resume", job) == (0, "", "")
    assert "running" in cli("ls")[1]
    status, _, err = cli("set", job, "--mem", "12Q")
    assert status == 125
    assert err.startswith("jobsup: --mem: '12Q' is not a size\n")


def test_a_job_may_ask_for_no_limit_by_name(cli: Cli) -> None:
    job = cli.start("--mem", "max", "--mem-high", "max", "--cpus", "max", "--", "sleep", "1000")
    told = json.loads(cli("status", "--json", job)[1])
    assert told["limits"]["memory.max"] == told["limits"]["memory.high"] == "max"
    assert "memory.swap.max" not in told["limits"]
    assert (told["request"]["mem"], told["request"]["cpus"]) == ("max", "max")


def test_remove_and_prune(cli: Cli) -> None:
    live, ended = cli.start("--", "sleep", "1000"), cli.start("--", "true")
    cli("wait", ended)
    assert cli("rm", live)[0] == 125
    assert cli("rm", "--force", live) == (0, "", "")
    assert cli("prune")[1] == f"{ended}\n"
    assert cli("ls", "-aq")[1] == ""


def test_control_and_ping(cli: Cli) -> None:
    assert cli("control", "unready")[1] == "unready\n"
    status, _, err = cli("start", "--", "true")
    assert status == 125
    assert "no new jobs" in err
    assert cli("control", "ready")[1] == "ready\n"
    assert json.loads(cli("ping", "--json")[1])["ready"] is True


def test_events_tell_the_story(daemon: Daemon) -> None:
    seen = []
    with jobsup.connect() as watching, jobsup.connect() as supervisor:
        events = watching.events()
        started: list[jobsup.Job] = []
        # The subscription stands when its first event can be asked for.
        timer = threading.Timer(1, lambda: started.append(supervisor.start(["false"])))
        timer.start()
        for event in events:
            seen.append((event.state, event.cause))
            if event.state == "failed":
                break
        timer.join()
    assert seen == [("starting", None), ("running", None), ("failed", "exited")]


# ---- run


def test_run_is_the_daemons_and_looks_as_ever(cli: Cli, tmp_path: Path) -> None:
    data = os.urandom(1 << 18)
    script = "cat; echo err >&2; exit 3"
    report = tmp_path / "verdict"
    done = run("run", "--json", str(report), "--", "sh", "-c", script, input=data)
    assert (done.returncode, done.stderr) == (3, b"err\n")
    assert done.stdout == data
    told = json.loads(report.read_text())
    assert (told["cause"], told["exit_code"]) == ("exited", 3)
    assert told["id"] in cli("ls", "-aq")[1]


def test_run_tells_what_is_refused(daemon: Daemon) -> None:
    done = run("run", "--rw", "/nowhere", "true")
    assert done.returncode == 125
    assert done.stderr.startswith(b"jobsup: --rw: /nowhere:")


_NEEDED = (
    "cli.details cli.progress cli.objects cli.table cli.commands.run cli.commands.status"
    " cli.commands.out cli.commands.wait cli.commands.verbs cli.commands.change cli.commands.ls"
    " cli.commands.doctor supervisor.client.attached supervisor.client.blocking"
)


def as_nobody(*arguments: str) -> tuple[int, bytes]:
    """The status and stdout of `jobsup ARGUMENTS` of another user's, who need not be able to reach
    this interpreter's files: it is forked, with all that it needs imported before."""
    for name in _NEEDED.split():
        importlib.import_module(f"jobsup.{name}")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.dup2(write_end, 1)
            sys.stdout = os.fdopen(1, "w", closefd=False)  # not what pytest keeps
            os.close(read_end)
            os.chdir("/")
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            status = invoke(arguments, Core())
            sys.stdout.flush()
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        out = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


def test_run_without_being_root(daemon: Daemon) -> None:
    assert as_nobody("run", "--", "id", "-u") == (0, f"{NOBODY}\n".encode())
    with jobsup.connect() as supervisor:
        (job,) = supervisor.jobs()
        assert job.user == "nobody"


def test_somebody_elses_job_is_absent(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    job = cli.start("--name", "mine", "--", "sleep", "1000")
    verbs = "status,explain,out,wait,stop,kill,pause,resume,set --mem 1G,rm -f".split(",")
    for verb in verbs:
        for ref in (job, job[:8], "mine"):
            assert as_nobody(*verb.split(), ref)[0] == 125
            assert capfd.readouterr().err == f"jobsup: there is no job {ref}\n"
    assert as_nobody("ls", "-aq") == (0, b"")
    assert "running" in cli("ls")[1]


def test_doctor_tells_a_user_what_the_daemon_finds(daemon: Daemon) -> None:
    status, out = as_nobody("doctor", "--json")
    told = json.loads(out)
    own = json.loads(run("doctor", "--json").stdout)
    assert (status, told["ok"]) == (0, True)
    words = [(found["name"], found["ok"]) for found in told["findings"]]
    assert words == [(found["name"], found["ok"]) for found in own["findings"]]
    assert ("root", True) in words


def interrupted(name: str) -> subprocess.Popen[bytes]:
    """A run of this program that is ready, and was sent SIGINT."""
    process = subprocess.Popen(
        [*JOBSUP, "run", *with_grants(program(name))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    return process


def test_an_interrupt_reaches_the_job_and_a_second_one_kills(daemon: Daemon) -> None:
    with interrupted("signal_reporter") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"SIGINT\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 137


def test_the_job_ends_with_its_caller(daemon: Daemon) -> None:
    process = subprocess.Popen(
        [*JOBSUP, "run", "--", "sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.communicate()
    with jobsup.connect() as supervisor:
        (job,) = supervisor.jobs()
        assert supervisor.job(job.id).wait(PATIENCE).cause == "killed"


# ---- a daemon that is killed


def test_output_and_waits_go_on_behind_a_killed_daemon(daemon: Daemon) -> None:
    size, step = 64 << 20, 8 << 20
    script = f"head -c {size} /dev/zero | tr '\\0' x; echo end"
    with jobsup.connect() as supervisor:
        job = supervisor.start(["sh", "-c", script])
        digest, count, kills = hashlib.sha256(), 0, 0
        for chunk in job.output("stdout"):
            digest.update(chunk)
            count += len(chunk)
            if count > (kills + 1) * step and kills < 3:
                kills += 1
                daemon.kill()
                daemon.start()
        assert kills == 3
        assert digest.digest() == hashlib.sha256(b"x" * size + b"end\n").digest()
        assert job.wait().state == "completed"


def test_run_waits_for_a_daemon_that_is_killed(daemon: Daemon) -> None:
    with subprocess.Popen(
        [*JOBSUP, "run", "--", "sh", "-c", "echo up; read line; exit 4"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        daemon.kill()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        daemon.start()
        assert process.wait(PATIENCE) == 4
