"""Writes COUNT single bytes to stdout, each by a system call of its own, then "end" to stderr."""

import os
import sys

for _ in range(int(sys.argv[1])):
    os.write(1, b"x")
os.write(2, b"end\n")
