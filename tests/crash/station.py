"""Where the crash tests keep one supervisor's state, its jobs' journal, and whichever daemon is
alive at the moment.

A daemon is ready when it says so as systemd would be told (NOTIFY_SOCKET), and has died when the
process that forked it could reap it: nothing here is guessed, and nothing slept for.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.crash.api import PATIENCE, Api
from tests.crash.books import Account, Entry, balance

REPO = Path(__file__).parents[2]
CGROUP = Path("/sys/fs/cgroup")


class Zygote:
    """Forks daemons that need not import anything first."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO,
        )  # fmt: skip
        self._read()

    def _ask(self, command: dict[str, Any]) -> int:
        assert self._process.stdin
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], "a daemon does not end"
        line = self._process.stdout.readline()
        assert line, "the zygote died"
        return line

    def start(self, arguments: list[str], env: dict[str, str], log: Path) -> int:
        return self._ask({"start": arguments, "env": env, "log": str(log)})

    def reap(self, pid: int) -> int:
        return self._ask({"reap": pid})

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class Died(Exception):
    """The daemon ended before it was ready."""


class Killed(Exception):
    """The daemon died when it was asked to end."""


class Station:
    """One state directory and its daemons, one after the other."""

    def __init__(self, directory: Path, zygote: Zygote, **options: object) -> None:
        self.place = directory / "place"
        self.state = directory / "state"
        self.log = directory / "daemon.log"
        self.options = options
        self._zygote = zygote
        self._pid: int | None = None
        self.deaths = 0
        self.place.mkdir(exist_ok=True)
        (self.place / "journal").touch()
        shutil.copy(bookkeeper(), self.place / "bookkeeper")
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (directory / "notify").unlink(missing_ok=True)
        self._notices.bind(str(directory / "notify"))
        self._notify = str(directory / "notify")
        self.api = Api(self.state / "run" / "jobsup.sock")
        self._before = _processes()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None and self.log.exists():
            print(self.log.read_text()[-4000:], *_processes().items(), sep="\n", file=sys.stderr)
        self.end_all()
        self._notices.close()

    # ---- daemons

    def start(self, kill_at: str = "", *, ready: bool = True) -> None:
        """Start a daemon that kills itself at this point; wait until it is ready.

        Raises:
            Died: it ended first.
        """
        assert self._pid is None
        arguments = ["serve", "--state", str(self.state)]
        for name, value in self.options.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        env = {"NOTIFY_SOCKET": self._notify, "JOBSUP_KILL_AT": kill_at}
        self._drop_notices()
        self._pid = self._zygote.start(arguments, env, self.log)
        if ready:
            self.wait_ready()

    def start_second(self) -> str:
        """Start another daemon beside the one that lives; what it said when it gave up."""
        before = len(self.log.read_text())
        pid = self._zygote.start(["serve", "--state", str(self.state)], {}, self.log)
        status = self._zygote.reap(pid)
        assert os.WIFEXITED(status), f"{status:#x}"
        assert os.WEXITSTATUS(status) == 125, f"{status:#x}"
        return self.log.read_text()[before:]

    def wait_ready(self) -> None:
        """Until it takes requests.

        Raises:
            Died: it ended first.
        """
        assert self._pid is not None
        watched, notices = os.pidfd_open(self._pid), self._notices.fileno()
        try:
            while True:
                ready, _, _ = select.select([notices, watched], [], [], PATIENCE)
                assert ready, "the daemon does not become ready"
                if notices in ready and b"READY=1" in self._notices.recv(4096):
                    return
                if watched in ready and not self._is_noticed():
                    self.wait_death()
                    raise Died
        finally:
            os.close(watched)

    def _is_noticed(self) -> bool:
        return bool(select.select([self._notices], [], [], 0)[0])

    def _drop_notices(self) -> None:
        while self._is_noticed():
            self._notices.recv(4096)

    @property
    def alive(self) -> bool:
        """Whether there is a daemon that was not seen to die."""
        return self._pid is not None

    @property
    def pid(self) -> int:
        assert self._pid is not None, "there is no daemon"
        return self._pid

    def kill(self) -> None:
        """SIGKILL, now."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_death()

    def wait_death(self) -> None:
        """Until it has died of SIGKILL."""
        status = self._zygote.reap(self.pid)
        self._pid = None
        self.deaths += 1
        told = f"the daemon was not killed but ended by itself: {status:#x}"
        assert os.WIFSIGNALED(status), told
        assert os.WTERMSIG(status) == signal.SIGKILL, told

    def end(self) -> None:
        """As a service manager ends it.

        Raises:
            Killed: it came to the point at which it was to die.
        """
        os.kill(self.pid, signal.SIGTERM)
        status = self._zygote.reap(self.pid)
        self._pid = None
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.deaths += 1
            raise Killed
        assert status == 0, f"the daemon ended with {status:#x}"

    def end_all(self) -> None:
        """Whatever the test left: the daemon, and the jobs that go on without it."""
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._zygote.reap(self._pid)
            self._pid = None
        for leaf in self.leaves():
            (leaf / "cgroup.kill").write_text("1")

    # ---- the books

    def submit(self, entry: Entry) -> Entry:
        entry.id = self.api.submit(entry.request(self.place))
        return entry

    def journal(self) -> list[str]:
        return (self.place / "journal").read_text().splitlines()

    def balance(self, entries: Iterable[Entry]) -> Account:
        """Wait for all jobs, end the daemon, and compare all there is."""
        account = balance(entries, self.place, self.api)
        known = {line["id"] for line in self.api.all()}
        self.end()
        account.left += self.remains(known)
        log = self.log.read_text(errors="replace").splitlines()
        account.mistakes += [line for line in log if line.split()[1:2] == ["error"]]
        return account

    def require_balanced(self, entries: Iterable[Entry]) -> None:
        account = self.balance(entries)
        assert not account.complaints, "\n".join([str(account), *account.complaints])

    def leaves(self) -> list[Path]:
        """The cgroups of jobs: those that have limits of their own."""
        return [path.parent for path in CGROUP.glob("**/jobs/*/cgroup.procs")]

    def inits(self) -> list[int]:
        """The pids of all inits."""
        found = []
        for pid in _processes():
            with suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/comm").read_text() == "jobsup-init\n":
                    found.append(pid)
        return found

    def kill_init(self) -> None:
        """SIGKILL to the only one there is."""
        (init,) = self.inits()
        os.kill(init, signal.SIGKILL)

    def wait_ended(self, pidfds: list[int]) -> None:
        """Until the processes behind them have; the descriptors are closed."""
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], PATIENCE)[0], "a process goes on"
            os.close(pidfd)

    def remains(self, known: set[str]) -> list[str]:
        """What is left of jobs that have all ended: processes, cgroups, sockets, and files that
        belong to no job."""
        processes = _processes()
        left = [
            f"process {pid} {processes[pid]}"
            for pid in sorted(processes.keys() - self._before.keys())
        ]
        left += [f"cgroup {leaf}" for leaf in self.leaves()]
        for socket_ in self.state.glob("run/**/*"):
            if socket_.is_socket() or socket_.is_file():
                left.append(f"file {socket_}")
        left += [f"file {path}" for path in self.state.glob("lib/incoming/*")]
        for path in self.state.glob("lib/jobs/*"):
            if path.name not in known:
                left.append(f"file {path}")
        return left


def _processes() -> dict[int, str]:
    """All there are, but those of the kernel."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):
                if command := (path / "cmdline").read_bytes():
                    found[int(path.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


_SOURCE = REPO / "tests" / "programs" / "bookkeeper.c"


def bookkeeper() -> Path:
    """The program, built once a boot. It is static, so that it starts fast."""
    built = Path("/tmp") / f"bookkeeper-{_SOURCE.stat().st_mtime_ns}"
    if not built.exists():
        making = built.with_suffix(f".{os.getpid()}")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static"]
        subprocess.run(["gcc", *flags, "-o", str(making), str(_SOURCE)], check=True)
        making.rename(built)
    return built
