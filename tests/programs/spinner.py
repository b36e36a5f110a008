"""spinner COUNT [SECONDS]: COUNT processes that do nothing but use the processor."""

import os
import sys
import time

count, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 3600)
for _ in range(count - 1):
    if os.fork() == 0:
        break
else:
    print("spinning", flush=True)
while time.monotonic() < end:
    pass
