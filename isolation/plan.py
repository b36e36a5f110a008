"""A job's walls as ordered data: a Plan is a row of small frozen steps, in blocks.

Python decides (here, in rootfs and identity); the init executes (native/init). A plan touches
nothing while it is made: it is tested without root, printed by `--dry-run`, and encoded into one
piece of bytes that the init reads from a sealed memfd. Jobs are much alike: a block that another
job had as well is made and encoded once a process.

Up to Workload the init executes the steps, with every capability; the rest is done by the workload
itself, in its leaf, on the way to its command. The order is the security argument: mounts, then
the pivot, then nothing of the host is open; oom_score_adj while CAP_SYS_RESOURCE is held; the
descriptors before the working directory; the user before the capabilities; no_new_privs last.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from . import rootfs, steps
from .shim import constant
from .steps import Block
from .walls import Identity, Program, Walls, Watch

_MAGIC, _VERSION = constant("PLAN_MAGIC"), constant("PLAN_VERSION")
_NAME_SIZE = constant("PLAN_NAME_SIZE")
_HEAD = struct.Struct(f"=8I5Q{_NAME_SIZE}s")
_UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one init does before and after its workload.

    `peer_loss_ends` says whether the job lives no longer than who started it (embedded) or goes
    on without (a daemon's).
    """

    blocks: tuple[Block, ...]
    watch: Watch
    peer_loss_ends: bool = True
    merge: bool = False

    @property
    def steps(self) -> tuple[steps.Step, ...]:
        return tuple(chain.from_iterable(block.steps for block in self.blocks))

    def describe(self) -> list[str]:
        """One sentence a step, in order."""
        return [step.describe() for step in self.steps]

    def encode(self, leaf: str, slots: int) -> bytes:
        """The bytes that the init reads; `leaf` is the name of the job's cgroup below jobs/,
        `slots` the bits of the descriptors that it gets (native/abi.h)."""
        body = b"".join([block.encoded for block in self.blocks])
        watch = self.watch
        return (
            _HEAD.pack(
                _MAGIC,
                _VERSION,
                _HEAD.size + len(body),
                sum([len(block.steps) for block in self.blocks]),
                slots,
                constant("PEER_LOSS_ENDS" if self.peer_loss_ends else "PEER_LOSS_CONTINUES"),
                watch.when_full,
                self.merge,
                watch.wall_ms or 0,
                watch.cpu_usec or 0,
                watch.grace_ms,
                _UNLIMITED if watch.output_max is None else watch.output_max,
                os.cpu_count() or 1,
                leaf.encode(),
            )
            + body
        )


def compile_plan(walls: Walls, leaf_path: bytes, *, peer_loss_ends: bool = True) -> Plan:
    """The plan of a job whose cgroup is the directory `leaf_path` in the host.

    Raises:
        PathRefused: a path of the walls cannot be given to the job.
    """
    program = walls.program
    # What differs from job to job, and is the last step's alone.
    alike = program._replace(argv=(), candidates=(), environment=())
    return Plan(
        blocks=(
            *rootfs.file_blocks(walls, leaf_path),
            _own_block(walls.hostname, walls.network),
            _workload_block(walls.identity, alike, walls.files.cwd),
            Block(_exec(program)),
        ),
        watch=walls.watch,
        peer_loss_ends=peer_loss_ends,
        merge=walls.merge,
    )


@lru_cache(maxsize=16)
def _own_block(hostname: bytes, network: str) -> Block:
    """The init's last steps."""
    loopback = (steps.Loopback(),) if network == "none" else ()
    return Block(steps.Hostname(hostname), *loopback, steps.Workload())


@lru_cache(maxsize=64)
def _workload_block(who: Identity, program: Program, cwd: bytes) -> Block:
    """What the workload does by itself, from its first instruction up to execve."""
    # A change to another user empties the permitted set, so there is nothing left to keep.
    kept = who.capabilities if who.uid == 0 else frozenset[str]()
    return Block(
        steps.CgroupNamespace(),
        steps.Session(),
        steps.OomScore(program.oom_score_adj),
        steps.Scheduler(),
        *(steps.SetRlimit(*limit) for limit in program.rlimits),
        steps.Streams(who.uid, who.gid),
        steps.Bounding(who.capabilities),
        steps.Groups(who.groups),
        steps.User(who.uid, who.gid),
        steps.Capabilities(kept),
        steps.NoNewPrivs(),
        steps.Umask(program.umask),
        steps.Cwd(cwd),
    )


def _exec(program: Program) -> steps.Exec:
    environment = tuple(name + b"=" + value for name, value in program.environment)
    return steps.Exec(program.candidates, program.argv, environment)
