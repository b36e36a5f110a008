"""A daemon of a test's own for what asks it through jobsup's own client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobsup.supervisor.client.blocking import Supervisor, connect
from tests import daemons


class Daemon(daemons.Daemon):
    """`jobsup serve` with a state of its own, and clients of it."""

    def supervisor(self) -> Supervisor:
        return connect(self.socket)


@contextmanager
def serving(directory: Path, *flags: str) -> Iterator[Daemon]:
    """A daemon with all that is its own below `directory`, its socket in the environment."""
    directory.mkdir(parents=True)
    with Daemon(directory, *flags) as daemon:
        daemon.start()
        os.environ["JOBSUP_SOCKET"] = str(daemon.socket)
        try:
            yield daemon
        finally:
            del os.environ["JOBSUP_SOCKET"]
