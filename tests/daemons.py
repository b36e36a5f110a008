"""Daemons that tests start, kill and start again, and that leave nothing behind.

A daemon is ready when it says so as systemd would be told (NOTIFY_SOCKET), and one that ends first
is seen by its pidfd: nothing is polled, and nothing slept for. What a kind of test asks of one is
in tests/kernel/serving.py, tests/daemon/served.py and tests/crash/station.py.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.machine import JOBSUP, PATIENCE, end_all_jobs, processes


class Died(Exception):
    """The daemon ended before it was ready: its status as Popen has it, and its last words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"status {status}: {words}")
        self.status = status


class Process(Protocol):
    """What a daemon's process can be asked for; a Popen can."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Daemon:
    """One state directory and its daemons, one after the other."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        descriptors: int | None = None,
        state: Path | None = None,
    ) -> None:
        """Nothing is started yet. `flags`: of `jobsup serve`; `descriptors`: how many the daemon
        may have; `state`: where, else in `directory`."""
        self.state = state or directory / "state"
        self.log = directory / "daemon.log"
        self.socket = self.state / "run" / "jobsup.sock"
        self.arguments = ["serve", "--state", str(self.state), *flags]
        self._descriptors = descriptors
        self._process: Process | None = None
        self._address = directory / "notify"
        self._address.unlink(missing_ok=True)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(self._address))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.last_words(), *processes().items(), sep="\n", file=sys.stderr)
        self.close()

    @property
    def command(self) -> list[str]:
        """Of a daemon for this state."""
        return [*JOBSUP, *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who uses this daemon."""
        return {**os.environ, "JOBSUP_SOCKET": str(self.socket)}

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    # ---- it begins

    def start(self, *, ready: bool = True) -> None:
        """Start a daemon; returns when it is ready.

        Raises:
            Died: it ended first.
        """
        assert not self.alive, "there is one"
        self._drop_notices()
        self._process = self._begin({"NOTIFY_SOCKET": str(self._address)})
        if ready:
            self.wait_ready()

    def _begin(self, environment: Mapping[str, str]) -> Process:
        """A new process, with so much more in its environment."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **environment}, preexec_fn=self._limit,
            )  # fmt: skip

    def _limit(self) -> None:
        if self._descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors, self._descriptors))

    def wait_ready(self) -> None:
        """Until it takes requests.

        Raises:
            Died: it ended first.
        """
        watched, notices = os.pidfd_open(self.pid), self._notices.fileno()
        try:
            while True:
                ready, _, _ = select.select([notices, watched], [], [], PATIENCE)
                assert ready, f"the daemon does not become ready: {self.last_words()}"
                if notices in ready and b"READY=1" in self._notices.recv(4096):
                    return
                if watched in ready and not self._is_noticed():
                    raise Died(self.wait_end(), self.last_words())
        finally:
            os.close(watched)

    def _is_noticed(self) -> bool:
        return bool(select.select([self._notices], [], [], 0)[0])

    def _drop_notices(self) -> None:
        while self._is_noticed():
            self._notices.recv(4096)

    # ---- it lives

    @property
    def alive(self) -> bool:
        """Whether there is a daemon that was not seen to end."""
        return self._process is not None and self._process.returncode is None

    @property
    def process(self) -> Process:
        assert self._process is not None, "there is no daemon"
        return self._process

    @property
    def pid(self) -> int:
        assert self.alive, "there is no daemon"
        return self.process.pid

    # ---- it ends

    def wait_end(self) -> int:
        """Until it has ended; its status as Popen has it."""
        return self.process.wait(PATIENCE)

    def wait_death(self) -> None:
        """Until it has died of SIGKILL."""
        status = self.wait_end()
        told = f"the daemon was not killed but ended by itself: {status}\n{self.last_words()}"
        assert status == -signal.SIGKILL, told

    def kill(self) -> None:
        """As a crash ends it, now; jobs go on."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_death()

    def end(self, number: int = signal.SIGTERM) -> None:
        """As a service manager ends it; jobs go on."""
        os.kill(self.pid, number)
        status = self.wait_end()
        assert status == 0, f"the daemon ended with {status}: {self.last_words()}"

    def close(self) -> None:
        """The end of the daemon and of every job, whatever the test left of them."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_end()
        end_all_jobs()
        self._notices.close()
