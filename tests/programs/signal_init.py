"""Sends every signal to PID 1 and then SIGKILL to everybody: ends with status 7 when it could."""

import contextlib
import os
import signal
import sys

for number in signal.valid_signals():
    os.kill(1, number)
with contextlib.suppress(ProcessLookupError):  # there is nobody else
    os.kill(-1, signal.SIGKILL)
os.kill(1, 0)
sys.exit(7)
