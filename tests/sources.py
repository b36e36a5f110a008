"""What the tests build and is not ours: a C library's sources, as PyPI has them.

tests/run calls this before it boots a guest, which has no network; the tests find the file in the
cache, outside of the checkout. Downloaded once, and known by its hash.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("JOBSUP_CACHE") or "/var/cache/jobsup")
BROTLI = CACHE / "Brotli-1.1.0.tar.gz"
SHA256 = "81de08ac11bcb85841e440c13611c00b67d3bf82698314928d0b676362546724"


def fetch() -> None:
    """Have the file in the cache, or raise subprocess.CalledProcessError with pip's own words."""
    if BROTLI.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        wanted = Path(name, "wanted")
        wanted.write_text(f"brotli==1.1.0 --hash=sha256:{SHA256}\n")
        # Not isolated: what sdists need to say who they are is in the environment already.
        command = "-m pip --quiet --disable-pip-version-check download --no-deps --no-binary :all:"
        command += f" --no-build-isolation --require-hashes -r {wanted} -d {name}"
        subprocess.run([sys.executable, *command.split()], check=True, stdin=subprocess.DEVNULL)
        Path(name, BROTLI.name).replace(BROTLI)


if __name__ == "__main__":
    fetch()
