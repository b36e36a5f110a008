"""disk_writer direct|fsync FILE MIB: write so many MiB, past the page cache or fsynced at the end.

Says "writing" when it begins and "written" when all is on the disk.
"""

import mmap
import os
import sys

how, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
block = mmap.mmap(-1, 1 << 20)  # O_DIRECT wants aligned memory
block.write(b"x" * len(block))
flags = os.O_WRONLY | os.O_CREAT | (os.O_DIRECT if how == "direct" else 0)
file = os.open(path, flags, 0o600)
print("writing", flush=True)
for at in range(count):
    os.pwrite(file, block, at << 20)
os.fsync(file)
print("written", flush=True)
