"""Launches without cgroups, where a host has no cgroup v2: a stand-in, never the product.

What it is for: on a slow guest kernel a launch is nearly all kernel, so the share that Python adds
cannot be seen there. Here the same library code, init and plan run on the host's own kernel, with

- directories and files on a tmpfs in the place of cgroups: made, locked, written and read back by
  the product's code as if they were cgroups, limiting nothing;
- the shim and the init built with standin.h, which takes CLONE_INTO_CGROUP away.

So both the floor and the library leave the same thing out: what cgroup v2 itself costs. No cgroup
of the host is looked at, made or changed. As a program this file is `jobsup` so treated:

    python bench/standin.py DIR run -- true
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEADER = Path(__file__).resolve().with_name("standin.h")
_TMPFS = "/dev/shm"  # files of a disk would cost more than cgroups do
CONTROLLERS = "cpu memory io pids cpuset"
KNOBS = ("cgroup.max.descendants", "pids.max", "memory.max", "memory.swap.max", "memory.oom.group")


def build(out_dir: Path) -> None:
    """Build the shim and the init without CLONE_INTO_CGROUP into `out_dir`."""
    from jobsup.isolation.native import build as native

    native.COMMON = (*native.COMMON, "-include", str(HEADER))  # type: ignore[assignment]
    native.build(out_dir)


@contextmanager
def tree(out_dir: Path) -> Iterator[None]:
    """What looks like a cgroup v2 mount to the library: `out_dir`/cgroup leads there."""
    with tempfile.TemporaryDirectory(prefix="jobsup-bench-", dir=_TMPFS) as root:
        (out_dir / "cgroup").symlink_to(root)
        _make_tree(Path(root))
        yield


def _make_tree(root: Path) -> None:
    for directory in (root, root / "jobsup", root / "jobsup/inits", root / "jobsup/jobs"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text(CONTROLLERS)
        (directory / "cgroup.subtree_control").write_text(CONTROLLERS)
    for name in ("memory.max", "pids.max"):
        (root / "jobsup/jobs" / name).write_text("max")


def install(out_dir: Path) -> None:
    """Make this process's jobsup use the stand-in; before jobsup.isolation is imported."""
    name = "jobsup.isolation._native"
    path = str(out_dir / "_native.abi3.so")
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(sys.modules[name])

    from jobsup.isolation import controllers, hierarchy, keeper, spawn

    make_leaf = hierarchy.make_leaf

    def make_leaf_with_knobs(hierarchy: hierarchy.Hierarchy, name: str) -> int:
        descriptor = make_leaf(hierarchy, name)
        for knob in KNOBS:
            os.close(os.open(knob, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=descriptor))
        return descriptor

    mount = str((out_dir / "cgroup").resolve())
    for module in (controllers, hierarchy):
        setattr(module, "find_mount", lambda: mount)  # noqa: B010
    hierarchy.make_leaf = make_leaf_with_knobs
    keeper.on_systemd = lambda: False
    spawn._INIT = str(out_dir / "_init")


def main() -> None:
    sys.path[0] = str(HEADER.parent.parent)  # the checkout, not bench/
    install(Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    from jobsup.cli.main import main as jobsup

    jobsup()


if __name__ == "__main__":
    main()
