"""What vagrant/guest promises: a command in the guest is like a command here, but for the kernel.

Every test boots a guest, which takes some 0.7 s with the kernel that vagrant/kernel/build makes.
"""

import hashlib
import os
import pty
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GUEST = str(Path(__file__).parents[2] / "vagrant" / "guest")
SECONDS = "60"  # the time limit of a guest in here, unless a test is about that

pytestmark = pytest.mark.requires("root")


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that every guest has, wherever the checkout lies."""
    monkeypatch.chdir("/")


def guest(
    *command: str | bytes,
    options: tuple[str, ...] = (),
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [GUEST, "--timeout", SECONDS, *options, "--", *command],
        input=stdin, capture_output=True, cwd=cwd, check=False, timeout=120,
    )  # fmt: skip


def sh(
    script: str, *options: str, stdin: bytes = b"", cwd: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    return guest("sh", "-c", script, options=options, stdin=stdin, cwd=cwd)


class Started:
    """A guest that runs; `with` closes the pipes and ends it."""

    def __init__(self, script: str, *options: str, stdin: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [GUEST, "--timeout", SECONDS, *options, "--", "sh", "-c", script],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert self.process.stdout
        assert self.process.stderr
        self.stdout, self.stderr = self.process.stdout, self.process.stderr

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.stdout.close()
        self.stderr.close()
        self.close_stdin()
        self.process.wait()

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    def close_stdin(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()

    def line(self) -> bytes:
        return self.stdout.readline()

    def end(self) -> int:
        return self.process.wait(60)


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 93, 255])
def test_exit_status_is_the_commands(status: int) -> None:
    assert sh(f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_that_a_signal_ends_gives_128_and_the_signal(number: int) -> None:
    assert sh(f"kill -{number} $$").returncode == 128 + number


def test_a_command_that_is_not_there_gives_127_and_says_so() -> None:
    result = guest("/no/such/command")
    assert result.returncode == 127
    assert b"/no/such/command" in result.stderr


def test_the_time_limit_gives_124() -> None:
    began = time.monotonic()
    result = guest("sleep", "1000", options=("--timeout", "2"))
    assert result.returncode == 124
    assert b"no end within 2 s" in result.stderr
    assert time.monotonic() - began < 1000


def test_a_guest_that_dies_gives_125_and_the_kernels_last_words() -> None:
    result = sh("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 9")
    assert result.returncode == 125
    assert b"panic" in result.stderr
    assert b"without an answer" in result.stderr


def test_a_command_that_kills_everything_else_still_ends_as_it_does() -> None:
    script = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -9 $p; done; exit 7"
    assert sh(f"exec 2>/dev/null; {script}").returncode == 7


def test_what_the_command_left_running_ends_with_it_though_it_holds_the_output() -> None:
    result = sh("setsid sleep 1000 & echo out; exit 3")
    assert (result.returncode, result.stdout) == (3, b"out\n")  # and not 124


@pytest.mark.parametrize(
    "options",
    [("--no-such-option", "x"), ("--rw", "/no/such/directory"), ("--disk", "/no/such/file"),
     ("--timeout", "soon"), ("--cgroup", "v3"), ("--kernel", "/no/such/kernel"), ("--shared",),
     ("--rw", "/sys/fs"), ("--ro", "/")],
)  # fmt: skip
def test_an_option_that_cannot_be_is_an_error_with_its_name(options: tuple[str, ...]) -> None:
    result = subprocess.run([GUEST, *options, "true"], capture_output=True, check=False)
    assert result.returncode == 125
    assert options[0].encode() in result.stderr


# --- what the command sees ------------------------------------------------------------------------


def test_arguments_arrive_byte_for_byte() -> None:
    arguments = (b"a b", b"", b"q'\"$x`", b"n\nl", b"\xff\xfe", "ü".encode(), b"-x", b"*")
    assert guest("printf", r"%s\0", *arguments).stdout.split(b"\0")[:-1] == list(arguments)


def test_it_runs_as_root_in_the_callers_directory_and_knows_where_it_is() -> None:
    here = Path(__file__).parent
    if here.parts[1] in ("tmp", "run", "dev"):
        result = sh('id -u; pwd; echo "$JOBSUP_GUEST"', "--ro", str(here), cwd=here)
    else:
        result = sh('id -u; pwd; echo "$JOBSUP_GUEST"', cwd=here)
    assert result.stdout.decode().split() == ["0", str(here), "uml"]


def test_another_working_directory() -> None:
    assert guest("pwd", options=("--cwd", "/usr")).stdout == b"/usr\n"


def test_a_working_directory_that_the_guest_lacks_is_an_error_with_its_remedy() -> None:
    hidden = Path("/dev/shm/jobsup-test-guest-cwd")
    hidden.mkdir()
    try:
        result = guest("true", cwd=hidden)
    finally:
        hidden.rmdir()
    assert result.returncode == 125
    assert b"remedy: --rw or --ro" in result.stderr


def test_the_environment_is_empty_but_for_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMED", "a\nb = c")
    monkeypatch.setenv("UNNAMED", "x")
    result = sh('printf "%s" "$NAMED|$UNNAMED|$GIVEN"', "--env", "NAMED", "--env", "GIVEN=1=2")
    assert result.stdout == b"a\nb = c||1=2"


def test_signals_have_their_default_dispositions() -> None:
    masks = dict(
        row.split(":\t") for row in guest("cat", "/proc/self/status").stdout.decode().splitlines()
    )
    assert (int(masks["SigIgn"], 16), int(masks["SigBlk"], 16)) == (0, 0)


def test_cgroup_v2_alone_is_the_default_and_no_controller_is_enabled() -> None:
    result = sh(
        "stat -f -c %T /sys/fs/cgroup; grep -c nsdelegate /proc/mounts; cd /sys/fs/cgroup;"
        "cat cgroup.controllers; cat cgroup.subtree_control"
    )
    kind, delegated, controllers, *enabled = result.stdout.decode().splitlines()
    assert (kind, delegated, "".join(enabled)) == ("cgroup2fs", "1", "")
    assert {"cpu", "io", "memory", "pids"} <= set(controllers.split())


def test_a_hybrid_host_has_v1_memory_and_an_empty_v2_tree() -> None:
    script = "cd /sys/fs/cgroup; ls memory/memory.limit_in_bytes; cat unified/cgroup.controllers"
    result = sh(script, "--cgroup", "hybrid")
    first, *controllers = result.stdout.decode().split()
    assert first == "memory/memory.limit_in_bytes"
    assert not {"cpu", "io", "memory", "pids"} & set(controllers)


def test_a_host_without_cgroups() -> None:
    assert sh("ls /sys/fs/cgroup; grep cgroup /proc/mounts", "--cgroup", "none").stdout == b""


def test_memory_is_as_asked() -> None:
    kib = int(sh("grep MemTotal /proc/meminfo", "--mem", "512M").stdout.split()[1])
    assert 400_000 < kib < 530_000


def test_more_kernel_arguments_and_the_kernels_messages(tmp_path: Path) -> None:
    log = tmp_path / "kernel log"
    sh("echo a-message > /dev/kmsg", "--klog", str(log), "--append", "loglevel=8 one two")
    assert "a-message" in log.read_text()
    assert "one" in log.read_text()


# --- its output -----------------------------------------------------------------------------------


def test_stdout_and_stderr_are_apart_and_nothing_is_added() -> None:
    result = sh("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_thirty_million_bytes_come_out_unchanged() -> None:
    script = "seq 1 4000000 | head -c 30000000 | tee /dev/stderr"
    result = sh(script)
    numbers = "".join(f"{n}\n" for n in range(1, 4_000_000)).encode()[:30_000_000]
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(numbers).digest()
    assert result.stderr == result.stdout


def test_a_slow_reader_loses_nothing() -> None:
    with Started("head -c 300000 /dev/zero; exit 4") as started:
        time.sleep(2)  # the command has ended, or waits for us
        assert started.stdout.read() == bytes(300_000)
        assert started.end() == 4


def test_lines_arrive_when_they_are_written() -> None:
    with Started("echo first; read -r answer; echo second $answer") as started:
        assert started.line() == b"first\n"
        started.write(b"x\n")
        assert started.line() == b"second x\n"
        assert started.end() == 0


def test_a_reader_that_goes_away_ends_the_writer() -> None:
    with Started("yes; echo $? >&2") as started:
        assert started.stdout.read(2) == b"y\n"
        started.stdout.close()
        assert started.stderr.readline() == b"141\n"  # SIGPIPE, as it would be here
        assert started.end() == 0


def test_descriptors_that_the_caller_shares_stay_blocking() -> None:
    read_end, write_end = os.pipe()
    subprocess.run([GUEST, "--", "echo", "x"], stdout=write_end, stdin=read_end, check=True)
    assert os.get_blocking(read_end)
    assert os.get_blocking(write_end)
    os.close(read_end)
    os.close(write_end)


# --- its input ------------------------------------------------------------------------------------


def test_two_hundred_million_bytes_go_in_unchanged(tmp_path: Path) -> None:
    block = random.Random(1).randbytes(1 << 20)
    data = b"".join(bytes([n]) + block[1:] for n in range(191))
    result = guest("sha256sum", stdin=data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    file = tmp_path / "data"
    file.write_bytes(data)
    with file.open("rb") as stdin:
        output = subprocess.check_output([GUEST, "--", "sha256sum"], stdin=stdin)
    assert output == result.stdout


def test_an_empty_stdin_ends_at_once() -> None:
    assert guest("wc", "-c").stdout == b"0\n"
    assert subprocess.check_output([GUEST, "wc", "-c"], stdin=subprocess.DEVNULL) == b"0\n"


def test_small_pieces_arrive_one_by_one() -> None:
    with Started("while read -r x; do echo got $x; done; echo end") as started:
        for n in range(20):
            started.write(b"%d\n" % n)
            assert started.line() == b"got %d\n" % n
        started.close_stdin()
        assert started.line() == b"end\n"
        assert started.end() == 0


def test_a_command_that_does_not_read_its_stdin_just_ends() -> None:
    assert guest("true", stdin=bytes(20_000_000)).returncode == 0


def test_a_stdin_that_never_ends_does_not_keep_the_command() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        output = subprocess.check_output([GUEST, "head", "-c", "4"], stdin=yes.stdout, timeout=60)
        yes.kill()
    assert output == b"y\ny\n"


def test_a_stdin_that_stays_open_and_silent_does_not_keep_the_command() -> None:
    with Started("exit 6") as started:
        assert started.end() == 6


def test_a_terminal_gives_lines_and_ends_with_control_d() -> None:
    ours, theirs = pty.openpty()
    with Started("read -r x; echo 1 $x; cat; echo end", stdin=theirs) as started:
        os.close(theirs)
        os.write(ours, b"one\n")
        assert started.line() == b"1 one\n"
        os.write(ours, b"two\n")
        assert started.line() == b"two\n"
        os.write(ours, b"\x04")
        assert started.line() == b"end\n"
        assert started.end() == 0
    os.close(ours)


# --- signals --------------------------------------------------------------------------------------

LOOP = "while :; do sleep 0.1; done"


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT"])
def test_a_signal_is_passed_on(name: str) -> None:
    with Started(f"trap 'echo got {name}; exit 9' {name}; echo ready; {LOOP}") as started:
        assert started.line() == b"ready\n"
        started.process.send_signal(signal.Signals[f"SIG{name}"])
        assert started.line() == f"got {name}\n".encode()
        assert started.end() == 9


def test_a_command_that_a_passed_signal_ends_says_so() -> None:
    with Started("echo ready; exec sleep 100") as started:
        assert started.line() == b"ready\n"
        started.process.send_signal(signal.SIGINT)
        assert started.end() == 128 + signal.SIGINT


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.6])
def test_a_signal_during_the_boot_is_not_lost(seconds: float) -> None:
    with Started("exec sleep 100") as started:
        time.sleep(seconds)
        started.process.send_signal(signal.SIGTERM)
        # The command's own end, or the runner's when that had not begun to listen.
        assert started.end() in (128 + signal.SIGTERM, -signal.SIGTERM)


def test_the_third_interrupt_cuts_the_power() -> None:
    with Started(f"trap '' INT; echo ready; {LOOP}") as started:
        assert started.line() == b"ready\n"
        sent = 0
        while started.process.poll() is None:
            started.process.send_signal(signal.SIGINT)
            sent += 1
            time.sleep(0.1)  # else they are one, and on a slow machine some of them still are
        assert sent >= 3
        assert started.end() == 128 + signal.SIGINT


def test_a_sigterm_that_is_not_obeyed_cuts_the_power_after_ten_seconds() -> None:
    with Started(f"trap '' TERM; echo ready; {LOOP}") as started:
        assert started.line() == b"ready\n"
        began = time.monotonic()
        started.process.send_signal(signal.SIGTERM)
        assert started.end() == 128 + signal.SIGTERM
        assert time.monotonic() - began > 9


# --- the host -------------------------------------------------------------------------------------


def test_the_guest_can_change_its_root_and_the_host_does_not_notice() -> None:
    result = sh(
        "set -e; touch /etc/guest-was-here /usr/bin/guest-was-here; rm -rf /etc/hostname /opt;"
        "chmod 777 /etc; ls /etc/guest-was-here; mkdir /tmp/m;"
        "mount -t hostfs none /tmp/m; touch /tmp/m/etc/guest-was-here || echo refused;"
        "touch /tmp/m/dev/shm/guest-was-here || echo refused;"
        "mkdir /tmp/m/sys/fs || echo refused"
    )
    assert result.stdout.decode().split() == ["/etc/guest-was-here", "refused", "refused"]
    for path in ("/etc", "/usr/bin", "/dev/shm"):
        assert not Path(path, "guest-was-here").exists()
    assert Path("/etc/hostname").exists()
    assert Path("/etc").stat().st_mode & 0o777 == 0o755


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "a directory, shared"
    (directory / "inner").mkdir(parents=True)
    (directory / "inner" / "file").write_bytes(b"of the host")
    return directory


def test_a_shared_directory_keeps_what_the_guest_wrote(shared: Path) -> None:
    script = (
        "set -e; cat inner/file; head -c 5000000 /dev/zero > big; chmod 640 big; mkdir made;"
        "mv inner/file made/moved; ln -s big link; chown 5:6 made"
    )
    result = sh(script, "--rw", str(shared), cwd=shared)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"of the host", b"")
    assert (shared / "big").read_bytes() == bytes(5_000_000)
    assert (shared / "big").stat().st_mode & 0o7777 == 0o640
    assert (shared / "made" / "moved").read_bytes() == b"of the host"
    assert (shared / "link").readlink() == Path("big")
    assert ((shared / "made").stat().st_uid, (shared / "made").stat().st_gid) == (5, 6)
    assert list((shared / "inner").iterdir()) == []


def test_a_read_only_share_is_read_only_and_may_have_a_writable_one_inside(shared: Path) -> None:
    script = "cat inner/file; echo x > inner/new; echo x > no 2>/dev/null || echo refused"
    options = ("--rw", str(shared / "inner"), "--ro", str(shared))
    assert sh(script, *options, cwd=shared).stdout == b"of the hostrefused\n"
    assert (shared / "inner" / "new").read_bytes() == b"x\n"
    assert not (shared / "no").exists()


def test_a_disk_is_a_block_device_that_keeps_its_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second disk"
    first.write_bytes(bytes(1 << 20))
    second.write_bytes(b"hello" + bytes((1 << 20) - 5))
    script = "echo written | dd of=/dev/ubdb conv=notrunc status=none; head -c 5 /dev/ubdc"
    result = sh(script, "--disk", str(first), "--disk", str(second))
    assert result.stdout == b"hello"
    assert first.read_bytes().startswith(b"written\n")


@pytest.fixture
def marker() -> Iterator[str]:
    """A kernel argument by which the processes of a guest are found."""
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    assert left_over(mark) == []
    assert "jobsup-guest" not in Path("/proc/self/mountinfo").read_text()


def left_over(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.mark.parametrize("script", ["exit 3", "setsid sleep 99 & kill -9 $$"])
def test_nothing_is_left_after_the_command(script: str, marker: str) -> None:
    sh(script, "--append", marker)


def test_nothing_is_left_after_the_time_limit(marker: str) -> None:
    assert sh("sleep 99", "--append", marker, "--timeout", "1.5").returncode == 124


def test_nothing_is_left_after_sigterm(marker: str) -> None:
    with Started("echo ready; exec sleep 99", "--append", marker) as started:
        assert started.line() == b"ready\n"
        started.process.terminate()
        assert started.end() == 128 + signal.SIGTERM


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.4, None])
def test_nothing_is_left_after_sigkill(seconds: float | None, marker: str) -> None:
    with Started("echo ready; exec sleep 99", "--append", marker) as started:
        if seconds is None:
            assert started.line() == b"ready\n"
            assert left_over(marker)
        else:
            time.sleep(seconds)
        started.process.kill()
        started.end()
    deadline = time.monotonic() + 60
    while left_over(marker) and time.monotonic() < deadline:
        time.sleep(0.05)  # nobody is left who could tell us
