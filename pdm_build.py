"""The packaging hook: build the C parts before an editable install or a wheel.

pdm-backend calls these functions by their names. How the parts are built is known only to
isolation/native/build.py, which is reached through jobsup/: that path exists in a checkout, where
jobsup/isolation is a link, and in an unpacked sdist, where it is a directory.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from pdm.backend.hooks import Context

ISOLATION = Path("jobsup/isolation")


def pdm_build_initialize(context: Context) -> None:
    """Tag the wheel: one file serves every Python from 3.11 on (the stable ABI)."""
    context.config_settings.update({"--python-tag": "cp311", "--py-limited-api": "abi3"})


def pdm_build_update_files(context: Context, files: dict[str, Path]) -> None:
    """Build in place, which is all that an editable install needs; a wheel gets the results."""
    if context.target == "sdist":
        return  # sources only: whoever installs it builds for their own machine
    isolation = (context.root / ISOLATION).resolve()
    build = runpy.run_path(str(isolation / "native" / "build.py"))["build"]
    built: tuple[Path, Path] = build(isolation)
    if context.target == "wheel":
        files.update({(ISOLATION / path.name).as_posix(): path for path in built})
