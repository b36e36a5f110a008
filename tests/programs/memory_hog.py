"""memory_hog SIZE [DEPTH]: touch SIZE bytes, in a descendant DEPTH generations down.

Who is left to wait says "survived", which nobody of a job that dies as a whole does.
"""

import mmap
import os
import sys

size, depth = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
for _ in range(depth):
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print("survived", status, flush=True)
        sys.exit(0)
memory = mmap.mmap(-1, size)
for at in range(0, size, mmap.PAGESIZE):
    memory[at] = 1
print("had all of it", flush=True)
