"""`tools/locked.py GROUP…` prints pdm.lock's packages of these groups as pip's requirements.

With their hashes, so that pip installs exactly what was locked without PDM, whose own
installation would take longer than ours.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "pdm.lock"


def requirements(lock: str, groups: set[str]) -> Iterator[str]:
    """One line a package: name==version ; marker --hash=… --hash=…"""
    for package in tomllib.loads(lock)["package"]:
        if groups.isdisjoint(package["groups"]):
            continue
        marker = f" ; {package['marker']}" if "marker" in package else ""
        hashes = "".join(f" --hash={file['hash']}" for file in package["files"])
        yield f"{package['name']}=={package['version']}{marker}{hashes}"


if __name__ == "__main__":
    for line in requirements(LOCK.read_text(), set(sys.argv[1:])):
        sys.stdout.write(line + "\n")
