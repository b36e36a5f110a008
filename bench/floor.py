"""Building floor.c and asking it for launches: everything that is measured by C goes through here.

A server is one process of floor.c that does what it is asked, one launch after the other, and
measures each by itself, so that neither the pipe between us nor Python is in the figures.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
SHIM = BENCH.parent / "isolation" / "native" / "shim.c"


@dataclass(frozen=True, slots=True)
class Sample:
    """One launch; microseconds. `executed` is None where nothing tells of the exec."""

    executed: float | None
    ended: float
    cpu: float


def build(out_dir: Path, flags: Sequence[str] = ()) -> Path:
    """Compile floor.c with the product's own shim."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("bench: no C compiler (Debian: gcc libc6-dev)")
    program = out_dir / "floor"
    warnings = ("-Wall", "-Wextra", "-Werror")
    command = [compiler, "-std=gnu11", "-O2", *warnings, *flags]
    subprocess.run([*command, str(BENCH / "floor.c"), str(SHIM), "-o", str(program)], check=True)
    return program


class Server:
    """A process of floor.c that launches when it is asked."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, count: int) -> None:
        """Begin `count` launches; `answer` gives them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()

    def answer(self, count: int) -> list[Sample]:
        """Wait for `count` launches.

        Raises:
            RuntimeError: one failed; what was said on stderr.
        """
        assert self._process.stdout is not None
        lines = [self._process.stdout.readline().split() for _ in range(count)]
        if not all(lines):
            assert self._process.stderr is not None
            words = self._process.stderr.read().strip().splitlines() or ["it ended"]
            raise RuntimeError(words[-1])
        return [
            Sample(int(executed) / 1000 or None, int(ended) / 1000, float(cpu))
            for executed, ended, cpu in lines
        ]

    def close(self) -> None:
        self._process.communicate()
