"""sd_notify(3), as far as a service needs it: one datagram to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager how we are, if there is one.

    With WATCHDOG_USEC in the environment the loop tells at half of that time that it turns: the
    one timer that ticks, and only where a service manager asks for it.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        # Only the process that WATCHDOG_PID names: children inherit the variable.
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "0")
        self._interval = int(usec) / 2e6 if meant and usec.isascii() and usec.isdigit() else 0.0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, **state: str) -> None:
        """Send such as READY="1", STATUS="1000 jobs". Nothing where nobody listens.

        Raises:
            OSError: the service manager's socket takes nothing.
        """
        if not self._address:
            return
        # "@" stands for the NUL byte of the abstract namespace.
        address = self._address
        path = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(path)
            sender.send("\n".join(f"{key}={value}" for key, value in state.items()).encode())

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer the watchdog, from the loop that it is to watch."""
        if self._address and self._interval:
            self.tell(WATCHDOG="1")
            self._timer = loop.call_later(self._interval, self.watch, loop)

    def close(self) -> None:
        """Leave the watchdog alone."""
        if self._timer is not None:
            self._timer.cancel()
