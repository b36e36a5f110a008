"""A job's walls as ordered data: a Plan is a tuple of small frozen steps.

Python decides (here, in rootfs and identity); the init executes (native/init). A plan touches
nothing while it is made: it is tested without root, printed by `--dry-run`, and encoded into one
block of bytes that the init reads from a sealed memfd.

Up to Workload the init executes the steps, with every capability; the rest is done by the workload
itself, in its leaf, on the way to its command. The order is the security argument: mounts, then
the pivot, then nothing of the host is open; oom_score_adj while CAP_SYS_RESOURCE is held; the
descriptors before the working directory; the user before the capabilities; no_new_privs last.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from . import rootfs, steps
from .shim import constant
from .walls import Program, Rlimit, Walls, Watch

_MAGIC, _VERSION = constant("PLAN_MAGIC"), constant("PLAN_VERSION")
_NAME_SIZE = constant("PLAN_NAME_SIZE")
_HEAD = struct.Struct(f"=8I4Q{_NAME_SIZE}s")
_UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one init does before and after its workload.

    `peer_loss_ends` says whether the job lives no longer than who started it (embedded) or goes
    on without (a daemon's).
    """

    steps: tuple[steps.Step, ...]
    watch: Watch
    peer_loss_ends: bool = True
    merge: bool = False

    def describe(self) -> list[str]:
        """One sentence a step, in order."""
        return [step.describe() for step in self.steps]

    def encode(self, leaf: str, slots: int) -> bytes:
        """The bytes that the init reads; `leaf` is the name of the job's cgroup below jobs/,
        `slots` the bits of the descriptors that it gets (native/abi.h)."""
        body = b"".join([step.encode() for step in self.steps])
        watch = self.watch
        return (
            _HEAD.pack(
                _MAGIC,
                _VERSION,
                _HEAD.size + len(body),
                len(self.steps),
                slots,
                constant("PEER_LOSS_ENDS" if self.peer_loss_ends else "PEER_LOSS_CONTINUES"),
                watch.when_full,
                self.merge,
                watch.wall_ms or 0,
                watch.cpu_usec or 0,
                watch.grace_ms,
                _UNLIMITED if watch.output_max is None else watch.output_max,
                leaf.encode(),
            )
            + body
        )


def compile_plan(walls: Walls, leaf_path: bytes, *, peer_loss_ends: bool = True) -> Plan:
    """The plan of a job whose cgroup is the directory `leaf_path` in the host.

    Raises:
        PathRefused: a path of the walls cannot be given to the job.
    """
    network = (steps.Loopback(),) if walls.network == "none" else ()
    return Plan(
        steps=(
            *rootfs.file_steps(walls, leaf_path),
            steps.Hostname(walls.hostname),
            *network,
            steps.Workload(),
            *_workload_steps(walls),
        ),
        watch=walls.watch,
        peer_loss_ends=peer_loss_ends,
        merge=walls.merge,
    )


def _workload_steps(walls: Walls) -> tuple[steps.Step, ...]:
    """What the workload does by itself, from its first instruction to execve."""
    who, program = walls.identity, walls.program
    # A change to another user empties the permitted set, so there is nothing left to keep.
    kept = who.capabilities if who.uid == 0 else frozenset[str]()
    return (
        steps.CgroupNamespace(),
        steps.Session(),
        steps.OomScore(program.oom_score_adj),
        steps.Scheduler(),
        *_rlimit_steps(program.rlimits),
        steps.Streams(who.uid, who.gid),
        steps.Bounding(who.capabilities),
        steps.Groups(who.groups),
        steps.User(who.uid, who.gid),
        steps.Capabilities(kept),
        steps.NoNewPrivs(),
        steps.Umask(program.umask),
        steps.Cwd(walls.files.cwd),
        _exec(program),
    )


@lru_cache(maxsize=16)
def _rlimit_steps(limits: tuple[Rlimit, ...]) -> tuple[steps.Step, ...]:
    """Made once for the jobs that have the same, which is nearly all."""
    return tuple(steps.SetRlimit(*limit) for limit in limits)


def _exec(program: Program) -> steps.Exec:
    environment = tuple(name + b"=" + value for name, value in program.environment)
    return steps.Exec(program.candidates, program.argv, environment)
