"""What a job is, seen from inside: what the kernel shows of its first process, and what the probes
in tests/programs found out there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.jobs import PROGRAMS, Jobs

NOBODY = 65534
# Of the system's own Python, which every user may execute wherever the tests' own one lies.
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
_SHOWN = "status cgroup environ limits mountinfo oom_score_adj stat net/dev".split()


def probe(name: str, *arguments: object) -> list[str]:
    """The command of one of tests/programs, as text: it needs no file but the interpreter, so it
    works under any root and for any user."""
    source = (PROGRAMS / f"{name}.py").read_text()
    return [PYTHON, "-ISc", source, *map(str, arguments)]


def ask(jobs: Jobs, name: str, *arguments: object, **options: Any) -> Any:  # noqa: ANN401 - JSON
    """What a probe found out in a job."""
    ended = jobs.run(probe(name, *arguments), **options)
    assert ended.status == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


class Portrait:
    """The first process of a job, as it is when it executes its command: what `head`, which
    changes nothing of it, reads in /proc/self."""

    def __init__(self, text: str) -> None:
        parts = text.removeprefix("==> /proc/self/").split("\n==> /proc/self/")
        self._files = dict(part.split(" <==\n", 1) for part in parts)

    def __getitem__(self, file: str) -> str:
        return self._files[file]

    def status(self, field: str) -> list[str]:
        """The words of a line of /proc/self/status."""
        lines = (line.split(":", 1) for line in self["status"].splitlines())
        return dict(lines)[field].split()

    def stat(self, position: int) -> int:
        """A field of /proc/self/stat, by its number in proc(5)."""
        return int(self["stat"].rpartition(") ")[2].split()[position - 3])

    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self["environ"].strip("\n\0").split("\0"))
        return {name: value for name, _, value in pairs}

    def limits(self) -> dict[str, tuple[str, str]]:
        """Soft and hard of each line of /proc/self/limits."""
        lines = self["limits"].splitlines()[1:]
        return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def portrait(jobs: Jobs, **options: Any) -> Portrait:  # noqa: ANN401 - those of Spec
    files = [f"/proc/self/{name}" for name in _SHOWN]
    ended = jobs.run(["head", "-v", "-c", "64K", *files], **options)
    assert ended.status == 0, ended.stderr.decode()
    return Portrait(ended.stdout.decode())


@contextmanager
def place() -> Iterator[Path]:
    """A new directory of the host's that jobs see without a grant, and every user may enter."""
    with tempfile.TemporaryDirectory(prefix="jobsup-test-", dir="/srv") as name:
        os.chmod(name, 0o755)
        yield Path(name)
