"""term_ignorer: says "ready", and then only SIGKILL ends it, and its child in another session."""

import os
import signal
import time

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
else:
    print("ready", flush=True)
while True:
    time.sleep(3600)
