"""signal_reporter: says "ready", then the name of each signal that comes, and with SIGUSR2 exits.

All signals that can be caught are.
"""

import os
import signal
import sys


def report(number: int, _: object) -> None:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"SIGRTMIN+{number - signal.SIGRTMIN}"
    os.write(1, f"{name}\n".encode())
    if number == signal.SIGUSR2:
        sys.exit(7)


for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, report)
os.write(1, b"ready\n")
while True:
    signal.pause()
