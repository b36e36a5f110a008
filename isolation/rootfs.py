"""What a job sees as its files: the policy, compiled into the mount steps of its plan.

The rules, in the order in which they are applied:
1. The host's root (or `--root DIR`), with everything mounted below it, read-only, nosuid, nodev.
2. Fresh kernel file systems: /proc, /sys (of the job's own network namespace, read-only, with the
   job's leaf at /sys/fs/cgroup) and a minimal /dev; what the container engines mask is masked.
3. Private scratch directories, sized: /tmp, /var/tmp, /run, /dev/shm.
4. What the user granted (`--rw`, `--ro`, `--tmpfs`). Where two paths nest, the deeper one wins,
   and a grant wins over a private directory of the same path.
   What somebody who is not root named is looked at, here and by the init, with their own rights.
5. Last, jobsup's own state is hidden, wherever a grant or another mount of the host's made it
   appear: a read-only mount does not stop connect(2) to a Unix socket. So are the host's own
   kernel file systems, where they came along with what was granted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from .elsewhere import all_places, below, kernel_directories, moved
from .errors import PathRefused, show
from .mountinfo import HostMount, host_mounts
from .rights import looking_as
from .steps import (
    CREATE,
    NO_DEV,
    NO_EXEC,
    NO_LINKS,
    NO_SUID,
    OF_OWNER,
    OPTIONAL,
    READ_ONLY,
    BindMount,
    Block,
    Detach,
    Device,
    MakeDir,
    Mask,
    Mount,
    Owner,
    Pivot,
    PrivateMounts,
    ReadOnly,
    Root,
    Seal,
    Step,
    Symlink,
)
from .walls import MIB, Bind, Files, Identity, Scratch, Walls

_SAFE = NO_SUID | NO_DEV
_KERNEL = NO_SUID | NO_DEV | NO_EXEC
_KERNEL_TREES = (b"/proc", b"/sys", b"/dev")
_PRIVATE = (b"/tmp", b"/var/tmp", b"/run", b"/dev/shm")
_RUN_SIZE = 64 * MIB

# The OCI default and what engines have added to it; one that this kernel lacks is passed over.
_MASKED_PROC = (
    "acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
).split()
# 1 is the init, which a job of root's could otherwise offer to the OOM killer (oom_score_adj).
_SEALED_PROC = "1 bus fs irq sys sysrq-trigger".split()
_MASKED_SYS = "firmware fs/selinux devices/virtual/powercap".split()
_CPUS = "/sys/devices/system/cpu"

# Numbers: Documentation/admin-guide/devices.txt of the kernel.
_DEVICES = (
    (b"null", 1, 3),
    (b"zero", 1, 5),
    (b"full", 1, 7),
    (b"random", 1, 8),
    (b"urandom", 1, 9),
    (b"tty", 5, 0),
)
_DEVICE_LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"ptmx", b"pts/ptmx"),
)
_TTY_GROUP = 5


def file_blocks(walls: Walls, leaf_path: bytes) -> tuple[Block, ...]:
    """The steps from the host's mounts to the job's pivoted root.

    Raises:
        PathRefused: a granted path is missing or not the job's to have, or the working directory
            or the command lies where the job cannot see it.
    """
    mounts = host_mounts()
    files = _with_all_hidden(walls.files, mounts)
    resolver = _hidden_resolver(files)
    with looking_as(files.resolve_as):
        files = _with_real_paths(files)
        layout = _layout(files, resolver)
        _check_visible(files, layout, walls)
    # JVM, Go and others size themselves by the limits that they read there.
    leaf = BindMount(leaf_path, b"/sys/fs/cgroup", _KERNEL | READ_ONLY, how=0)
    return (
        _kernel_block(files.root, _root_attributes(files), files.resolve_as),
        Block(leaf),
        _grants_block(files, layout, kernel_directories(mounts)),
    )


@lru_cache(maxsize=16)
def _kernel_block(root: bytes, attributes: int, owner: Identity | None) -> Block:
    tree: tuple[Step, ...] = (Root(root, attributes),)
    if owner is not None:
        tree = (Owner(*owner[:3]), Root(root, attributes, OF_OWNER))
    return Block(PrivateMounts(), *tree, *_proc(), *_sys(), *_dev())


@lru_cache(maxsize=64)
def _grants_block(files: Files, layout: _Layout, kernel: tuple[bytes, ...]) -> Block:
    grants = sorted(layout, key=lambda grant: _depth(grant.target))
    return Block(
        *chain.from_iterable(_grant(grant, files) for grant in grants),
        ReadOnly(b"/dev"),
        *map(Mask, _revealed(files, kernel)),
        Pivot(),
    )


def _proc() -> Iterator[Step]:
    yield Detach(b"/proc")
    yield Mount(b"proc", b"/proc", attributes=_KERNEL, how=NO_LINKS)
    for name in _MASKED_PROC:
        yield Mask(b"/proc/" + name.encode())
    for name in _SEALED_PROC:
        yield Seal(b"/proc/" + name.encode())


def _sys() -> Iterator[Step]:
    yield Detach(b"/sys")
    yield Mount(b"sysfs", b"/sys", attributes=_KERNEL | READ_ONLY, how=NO_LINKS)
    for name in _MASKED_SYS:
        yield Mask(b"/sys/" + name.encode())
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(_CPUS)):
            if os.path.isdir(f"{_CPUS}/{name}/thermal_throttle"):
                yield Mask(f"{_CPUS}/{name}/thermal_throttle".encode())


def _dev() -> Iterator[Step]:
    yield Detach(b"/dev")
    options = (b"mode=755", b"size=64k", b"nr_inodes=64")
    yield Mount(b"tmpfs", b"/dev", options, NO_SUID | NO_EXEC, how=NO_LINKS)
    for name, major, minor in _DEVICES:
        yield Device(b"/dev/" + name, major, minor)
    for name, content in _DEVICE_LINKS:
        yield Symlink(b"/dev/" + name, content)
    for name in (b"pts", b"shm", b"mqueue"):
        yield MakeDir(b"/dev/" + name)
    options = (b"ptmxmode=666", b"mode=620", b"gid=%d" % _TTY_GROUP)
    yield Mount(b"devpts", b"/dev/pts", options, NO_SUID | NO_EXEC)
    yield Mount(b"mqueue", b"/dev/mqueue", attributes=_KERNEL)


class _Private(NamedTuple):
    """A scratch directory that every job has, unless a grant took its place."""

    target: bytes
    size: int


_Layout = tuple[Bind | Scratch | _Private, ...]


@lru_cache(maxsize=64)
def _layout(files: Files, resolver: Bind | None) -> _Layout:
    """All that is mounted over the root's own files, in no order yet."""
    granted = {grant.target for grant in files.grants}
    private = (
        _Private(path, _RUN_SIZE if path == b"/run" else files.scratch_size)
        for path in _PRIVATE
        if path not in granted
    )
    grants = (grant for grant in files.grants if grant.target != b"/")
    return (*grants, *private, *([resolver] if resolver else []))


def _how(grant: Bind | Scratch | _Private, files: Files) -> int:
    """With whose rights a grant is found, and its place made when that is missing: an owner makes
    nothing that they could not make by themselves."""
    owned = files.resolve_as is not None and grant in files.grants
    return CREATE | OF_OWNER if owned else CREATE


def _grant(grant: Bind | Scratch | _Private, files: Files) -> Iterator[Step]:
    how = _how(grant, files)
    match grant:
        case Bind(source, target, writable):
            yield BindMount(source, target, _SAFE | (0 if writable else READ_ONLY), how)
        case Scratch(target, size):
            yield Mount(b"tmpfs", target, _tmpfs(size, b"1777"), how=how)
        case _Private(target, size):
            yield Detach(target)
            # An owner makes the places of their grants with their own rights, in /run too.
            of_root = target == b"/run" and files.resolve_as is None
            mode = b"755" if of_root else b"1777"
            yield Mount(b"tmpfs", target, _tmpfs(size, mode), how=OPTIONAL)


def _tmpfs(size: int, mode: bytes) -> tuple[bytes, ...]:
    # An inode costs the kernel about 1 KiB that no size limit counts: one for each 4 KiB page.
    inodes = max(size // 4096, 1024)
    return (b"mode=" + mode, b"size=%d" % size, b"nr_inodes=%d" % inodes)


def _depth(path: bytes) -> int:
    return 0 if path == b"/" else path.count(b"/")


def _root_attributes(files: Files) -> int:
    """Writable when the user granted / itself."""
    writable = any(
        isinstance(grant, Bind) and grant.target == b"/" and grant.writable
        for grant in files.grants
    )
    return _SAFE | (0 if writable else READ_ONLY)


def _with_all_hidden(files: Files, mounts: tuple[HostMount, ...]) -> Files:
    """The same with hidden directories at all places where the host has them."""
    hidden = (all_places(os.path.realpath(path), mounts) for path in files.hidden)
    return files._replace(hidden=tuple(sorted(set().union(*hidden))))


def _with_real_paths(files: Files) -> Files:
    """The same with every path of the host that was named as the real one that is there now,
    checked."""
    grants: list[Bind | Scratch] = []
    for grant in files.grants:
        field = "tmpfs"
        if files.resolve_as is not None and files.root == b"/":
            # The init follows no link in an owner's target; those of the host it may well have.
            grant = grant._replace(target=os.path.realpath(grant.target))
        if isinstance(grant, Bind):
            field = "rw" if grant.writable else "ro"
            grant = Bind(_real(field, grant.source), grant.target, grant.writable)
            _refuse_own_state(field, grant.source, files)
            if grant.target == b"/" and grant.source != _real("root", files.root):
                raise PathRefused(
                    field, grant.source, "cannot become the whole root", hint="use --root DIR"
                )
        for tree in _KERNEL_TREES:
            if grant.target == tree or (tree != b"/dev" and below(grant.target, tree)):
                raise PathRefused(field, grant.target, "every job has its own")
        grants.append(grant)
    root = _real("root", files.root)
    _refuse_own_state("root", root, files)
    return files._replace(root=root, grants=tuple(grants))


def _real(field: str, path: bytes) -> bytes:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise PathRefused(field, path, os.strerror(error.errno or 0)) from error


def _refuse_own_state(field: str, source: bytes, files: Files) -> None:
    for hidden in files.hidden:
        if below(source, hidden):
            raise PathRefused(field, source, "is jobsup's own state, which no job may see")


def _revealed(files: Files, kernel: Sequence[bytes]) -> list[bytes]:
    """Where in the job the hidden directories, and the host's kernel files, would appear."""
    grants = [(g.source, g.target) for g in files.grants if isinstance(g, Bind)]
    found = {
        moved(path, source, target)
        for path in files.hidden
        for source, target in [(files.root, b"/"), *grants]
        if below(path, source)
    }
    # At /proc, /sys and /dev of the root the job has its own.
    in_root = (moved(path, files.root, b"/") for path in kernel if below(path, files.root))
    found.update(p for p in in_root if not any(below(p, tree) for tree in _KERNEL_TREES))
    # One that was granted itself was meant.
    found.update(
        moved(path, source, target)
        for path in kernel
        for source, target in grants
        if target != b"/" and path != source and below(path, source)
    )
    return sorted(found)


def _hidden_resolver(files: Files) -> Bind | None:
    """The host's resolv.conf, where /etc/resolv.conf leads into the hidden /run."""
    path = os.path.realpath(os.path.join(files.root, b"etc/resolv.conf"))
    granted = any(below(path, grant.target) for grant in files.grants if grant.target != b"/")
    if files.root != b"/" or granted or not below(path, b"/run") or not os.path.isfile(path):
        return None
    return Bind(path, path)


def _check_visible(files: Files, layout: _Layout, walls: Walls) -> None:
    """Say before anything starts what would be a bare errno inside."""
    if files.root != b"/":
        _check_root(files.root)
        return  # what else is in a user's own root is known when the init is there
    command = walls.program.argv[0], walls.program.candidates[0]
    _require_visible("cwd", files.cwd, layout, "the working directory")
    if not os.path.isdir(_source_of(files.cwd, layout)):
        raise PathRefused("cwd", files.cwd, "is no directory in the job", hint="--cwd / is one")
    if b"/" in command[0] and os.path.exists(command[1]):
        _require_visible("command", command[1], layout, "the command")
    for grant in files.grants:
        _require_place(grant, layout, files)


def _check_root(root: bytes) -> None:
    """A user's root needs the directories on which every job has its own."""
    for tree in _KERNEL_TREES:
        if not os.path.lexists(root + tree):
            raise PathRefused(
                "root",
                root,
                f"has no {show(tree)}, where every job has its own",
                hint="make what is missing of proc, sys, dev and tmp in it",
            )


def _covering(path: bytes, layout: _Layout) -> Bind | Scratch | _Private | None:
    """What is mounted at `path` or nearest above it, if not the root."""
    return max(
        (grant for grant in layout if below(path, grant.target)),
        key=lambda grant: _depth(grant.target),
        default=None,
    )


def _source_of(path: bytes, layout: _Layout) -> bytes:
    """The host's path of what the job sees at `path`; an empty directory of its own is one."""
    covering = _covering(path, layout)
    if isinstance(covering, Bind):
        return moved(path, covering.target, covering.source)
    return b"/" if covering and covering.target == path else path


def _require_visible(field: str, path: bytes, layout: _Layout, what: str) -> None:
    real = os.path.realpath(path)
    covering = _covering(real, layout)
    if isinstance(covering, Scratch | _Private) and real != covering.target:
        where = show(covering.target)
        directory = show(path if field == "cwd" else os.path.dirname(path))
        raise PathRefused(
            field,
            path,
            f"{what} lies under {where}, and every job has a {where} of its own",
            hint=f"grant it: --ro {directory} (or --rw {directory})"
            + (", or choose another directory with --cwd" if field == "cwd" else ""),
        )


def _require_place(grant: Bind | Scratch, layout: _Layout, files: Files) -> None:
    """A mount needs something to be mounted on, which can be made in what is writable only."""
    above = os.path.dirname(grant.target)
    covering = _covering(above, layout)
    if isinstance(covering, Scratch | _Private) or below(grant.target, b"/dev"):
        return
    writable = covering.writable if covering else not _root_attributes(files) & READ_ONLY
    here = moved(grant.target, covering.target, covering.source) if covering else grant.target
    if not writable and not os.path.lexists(here):
        field = "tmpfs" if isinstance(grant, Scratch) else "rw" if grant.writable else "ro"
        raise PathRefused(
            field,
            grant.target,
            "is not there in the job, and its files are read-only, so it cannot be made",
            hint="choose a directory that is there, or one below /tmp",
        )
