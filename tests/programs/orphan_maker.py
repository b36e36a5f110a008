"""orphan_maker COUNT: makes COUNT orphans, one after the other, that end at once, and waits for
none; then says how many processes its cgroup still has, when PID 1 has had its chance."""

import os
import sys
import time

for _ in range(int(sys.argv[1])):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    os.fork()  # the grandchild, an orphan as soon as its parent has gone
    os._exit(0)


def processes() -> int:
    with open("/sys/fs/cgroup/pids.current") as file:
        return int(file.read())


deadline = time.monotonic() + 30
while processes() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
print(processes())
