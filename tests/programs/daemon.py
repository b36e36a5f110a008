"""daemon: leaves a daemon behind, as daemon(3) would: twice forked, a session of its own.

It keeps the streams unless told "quiet".
"""

import os
import signal
import sys

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if sys.argv[1:] == ["quiet"]:
            null = os.open("/dev/null", os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
        while True:
            signal.pause()
    os._exit(0)
os.wait()
print("daemon started", flush=True)
