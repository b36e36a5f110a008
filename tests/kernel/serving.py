"""A real daemon of a test's own: started, killed, started again; at the end all of its jobs end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobsup.supervisor.client.blocking import Supervisor, connect
from tests.kernel.jobs import JOBSUP, PATIENCE


class Daemon:
    """`jobsup serve` with a state of its own."""

    def __init__(self, state: Path, *flags: str) -> None:
        self.state = state
        self.socket = state / "jobsup.sock"
        self.log = state / "log"
        self._flags = flags
        self.start()

    def start(self) -> None:
        """A new process for the same state; returns when it answers."""
        command = [*JOBSUP, "serve", "--state", str(self.state), "--socket", str(self.socket)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.supervisor().close()

    def supervisor(self) -> Supervisor:
        return connect(self.socket, wait=PATIENCE)

    def kill(self) -> None:
        """As a crash ends it."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """End its jobs and itself."""
        if self.process.poll() is not None:
            self.start()
        with self.supervisor() as supervisor:
            supervisor.control("terminate")
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()


@contextmanager
def serving(state: Path, *flags: str) -> Iterator[Daemon]:
    """A daemon, its socket in the environment."""
    state.mkdir(parents=True)
    daemon = Daemon(state, *flags)
    os.environ["JOBSUP_SOCKET"] = str(daemon.socket)
    try:
        yield daemon
    finally:
        del os.environ["JOBSUP_SOCKET"]
        daemon.close()
