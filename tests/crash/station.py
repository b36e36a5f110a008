"""Where the crash tests keep one supervisor's state, its jobs' journal, and whichever daemon is
alive at the moment: one that a zygote forked, and that dies where it is told to.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tests.crash.api import Api
from tests.crash.books import Account, Entry, balance
from tests.daemons import Daemon, Died, Process
from tests.machine import PATIENCE, REPO, inits, kill, leaves, processes, wait_ended


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
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], "the zygote says nothing"
        line = self._process.stdout.readline()
        assert line, "the zygote died"
        return line

    def start(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Forked:
        return Forked(self, self._ask({"start": arguments, "env": dict(env), "log": str(log)}))

    def reap(self, pid: int) -> int:
        """Its status as Popen has it, once it has ended."""
        return os.waitstatus_to_exitcode(self._ask({"reap": pid}))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class Forked:
    """A daemon's process that is a zygote's child."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._zygote = zygote

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)

    def wait(self, timeout: float | None = None) -> int:
        """As Popen's. A zygote that is asked to reap does nothing else until it can, so it is asked
        when it can: a daemon that lives on fails one test, and not all that come after it."""
        if self.returncode is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                assert select.select([pidfd], [], [], timeout)[0], "the daemon does not end"
            finally:
                os.close(pidfd)
            self.returncode = self._zygote.reap(self.pid)
        return self.returncode


class Killed(Exception):
    """The daemon died when it was asked to end."""


class Station(Daemon):
    """One state directory, its daemons, and the journal of its jobs."""

    def __init__(self, directory: Path, zygote: Zygote, **options: object) -> None:
        flags = (("--" + name.replace("_", "-"), str(value)) for name, value in options.items())
        super().__init__(directory, *chain.from_iterable(flags))
        self.place = directory / "place"
        self.options = options
        self._zygote = zygote
        self.deaths = 0
        self.place.mkdir(exist_ok=True)
        (self.place / "journal").touch()
        shutil.copy(bookkeeper(), self.place / "bookkeeper")
        self.api = Api(self.socket)
        self._before = processes()

    # ---- daemons

    def start(self, kill_at: str = "", *, ready: bool = True) -> None:
        """Start a daemon that kills itself at this point; returns when it is ready.

        Raises:
            Died: it ended first.
        """
        self._kill_at = kill_at
        super().start(ready=ready)

    def _begin(self, environment: Mapping[str, str]) -> Process:
        environment = {**environment, "JOBSUP_KILL_AT": self._kill_at}
        return self._zygote.start(self.arguments, environment, self.log)

    def start_second(self) -> str:
        """Start another daemon beside the one that lives; what it said when it gave up."""
        before = len(self.log.read_text())
        status = self._zygote.start(self.arguments, {}, self.log).wait(PATIENCE)
        assert status == 125, status
        return self.log.read_text()[before:]

    def wait_ready(self) -> None:
        """Until it takes requests.

        Raises:
            Died: it died of SIGKILL first.
        """
        try:
            super().wait_ready()
        except Died as died:
            self.deaths += 1
            assert died.status == -signal.SIGKILL, died
            raise

    def wait_death(self) -> None:
        super().wait_death()
        self.deaths += 1

    def end(self, number: int = signal.SIGTERM) -> None:
        """As a service manager ends it.

        Raises:
            Killed: it came to the point at which it was to die.
        """
        os.kill(self.pid, number)
        status = self.wait_end()
        if status == -signal.SIGKILL:
            self.deaths += 1
            raise Killed
        assert status == 0, f"the daemon ended with {status}"

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

    def kill_init(self) -> None:
        """SIGKILL to the only one there is."""
        (init,) = inits()
        kill(init)

    def wait_ended(self, pidfds: list[int]) -> None:
        """Until the processes behind them have; the descriptors are closed."""
        for pidfd in pidfds:
            wait_ended(pidfd)
            os.close(pidfd)

    def remains(self, known: set[str]) -> list[str]:
        """What is left of jobs that have all ended: processes, cgroups, sockets, and files that
        belong to no job."""
        now = processes()
        left = [f"process {pid} {now[pid]}" for pid in sorted(now.keys() - self._before.keys())]
        left += [f"cgroup {leaf}" for leaf in leaves()]
        for socket_ in self.state.glob("run/**/*"):
            if socket_.is_socket() or socket_.is_file():
                left.append(f"file {socket_}")
        left += [f"file {path}" for path in self.state.glob("lib/incoming/*")]
        for path in self.state.glob("lib/jobs/*"):
            if path.name not in known:
                left.append(f"file {path}")
        return left


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
