"""The options of a job on the command line: one table for every command that takes them.

The flags are texts; Spec.make (or the daemon's) gives them their meaning, so that a value is
refused in the same words here and in Python.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import click

from . import render, report, words

GROUPS: dict[str, list[tuple[str, str, str]]] = {
    # group -> (flag, metavar, help)
    # What ends in "..." may be given again; what has no metavar is a switch.
    "Resources": [
        ("--mem", "SIZE|max", "Memory limit; no swap with it unless --swap."),
        ("--mem-high", "SIZE|max", "Slow the job down above this much memory."),
        ("--mem-low", "SIZE", "Memory left to it while others have some; 0 is none."),
        ("--swap", "SIZE|max", "Swap limit."),
        ("--oom-group/--no-oom-group", "", "At --mem, kill all of it, or one process."),
        ("--cpus", "N|max", "CPU time, in processors: 0.5 is half of one."),
        ("--cpu-weight", "1-10000", "Share of busy processors; 100 is everybody's."),
        ("--cpuset", "LIST", "Run on these processors only: 0-3,8."),
        ("--pids", "N|max", "Most processes and threads; 4096 unless said."),
        ("--io-max", "PATH|DEV:LIMITS...", "Rates of a disk: rbps=N|max, wbps=, riops=, wiops=."),
        ("--io-weight", "1-10000", "Share of busy disks; 100 is everybody's."),
        ("--cgroup", "KEY=VALUE...", "Any other file of the job's cgroup."),
    ],
    "Files": [
        ("--rw", "PATH|SRC:DST...", "Let the job write here."),
        ("--ro", "PATH|SRC:DST...", "Let the job read what it would not see."),
        ("--tmpfs", "/PATH[:SIZE]...", "An empty directory in memory."),
        ("--root", "DIR", "Run in this file tree instead of the host's."),
        ("--cwd", "DIR", "Working directory in the job; the caller's unless said."),
    ],
    "Network": [
        ("--net", "none|host", "The job's own loopback (default), or the host's network."),
        ("--hostname", "NAME", 'Host name in the job; "job" unless said.'),
    ],
    "Identity and environment": [
        ("--user", "NAME|UID", "Run as this user, with that user's groups."),
        ("--group", "NAME|GID", "Primary group."),
        ("--groups", "LIST...", 'Supplementary groups, by commas; "none".'),
        ("--cap", "CHANGE...", "Capabilities: none, all, NAME or -NAME, in order."),
        ("--name", "NAME", "What people call it; several jobs may have the same."),
        ("--env", "NAME[=VALUE]...", "Set a variable, or pass on the caller's if it is set."),
        (
            "--env-file",
            "FILE...",
            "NAME=VALUE lines, taken literally: no quotes, no $. --env wins.",
        ),
        ("--inherit-env", "", "Pass on the caller's whole environment."),
        ("--rlimit", "NAME=SOFT[:HARD]...", "A resource limit: nofile=1024:4096."),
        ("--oom-score-adj", "N", "-1000 to 1000; 0 unless said."),
    ],
    "Time and output": [
        ("--time", "TIME", "Longest run: 10s, 1h30m; pauses do not count."),
        ("--cpu-time", "TIME", "CPU time of all its processes together."),
        ("--grace", "TIME", "From SIGTERM to SIGKILL; 5s unless said."),
        ("--output-max", "SIZE", "Most output, stdout and stderr together."),
        ("--output-full", "drop|kill|block", "At --output-max; drop unless said."),
        ("--merge", "", "stderr into stdout, in the order of writing."),
    ],
}


def job_options(*only: str) -> list[click.Parameter]:
    """The options of a job as those of a command; of these groups, or of all."""
    return [
        render.GroupedOption(
            [flag],
            group=group,
            metavar=metavar.removesuffix("...") or None,
            multiple=metavar.endswith("..."),
            is_flag=not metavar,
            default=None,
            help=text,
            shell_complete=words.of_metavar(metavar),
        )
        for group, flags in GROUPS.items()
        if not only or group in only
        for flag, metavar, text in flags
    ]


def options_of(parameters: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
    """The job's options among a command's parameters: texts, or tuples of them. What is not said
    is left out, and so is what is the command's `own`."""
    return {
        name: value
        for name, value in parameters.items()
        if name not in own and value not in (None, ())
    }


class JobCommand(render.GroupedCommand):
    """Words that are wrong leave no old verdict behind."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except click.UsageError:
            so_far = click.Context(self, resilient_parsing=True)
            super().parse_args(so_far, list(args))
            if not so_far.params.get("dry_run"):
                report.discard(so_far.params.get("verdict"))
            raise
