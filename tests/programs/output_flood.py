"""output_flood STDOUT STDERR SEED: so many bytes to each, both at once, and no two blocks alike.

A reader who knows the sizes and the seed knows every byte: `block(seed, stream, n)` is the n-th.
"""

import os
import random
import sys
import threading

BLOCK = 1 << 20


def block(seed: int, stream: int, number: int) -> bytes:
    """A block of random bytes: one of few, turned by its number, to be had cheaply."""
    base = _bases[seed] if seed in _bases else _bases.setdefault(seed, _base(seed))
    turn = (number * 7919 + stream * 104729) % BLOCK
    return b"%d:%d|" % (stream, number) + base[turn:] + base[:turn]


def _base(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK)


_bases: dict[int, bytes] = {}


def flood(seed: int, stream: int, size: int) -> None:
    number = 0
    while size > 0:
        data = memoryview(block(seed, stream, number))[:size]
        size -= len(data)
        while data:
            data = data[os.write(stream, data) :]
        number += 1


if __name__ == "__main__":
    stdout, stderr, seed = map(int, sys.argv[1:])
    other = threading.Thread(target=flood, args=(seed, 2, stderr))
    other.start()
    flood(seed, 1, stdout)
    other.join()
