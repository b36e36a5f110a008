"""`./run bench [PART…]`: what jobsup costs, in multiples of what the kernel costs.

See README.md beside this file for what each figure means.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from . import daemon, floor, launches, output, parts, peers, standin

PARTS = ("latency", "rate", "output", "stages", "imports", "calls", "idle", "daemon")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--seconds", type=float, default=60, help="for what is timed (60)")
    parser.add_argument("--rounds", type=int, default=1000, help="at most so many (1000)")
    parser.add_argument("--clients", type=int, default=4, help="launchers at once (4)")
    parser.add_argument("--mebibytes", type=int, default=64, help="of output (64)")
    parser.add_argument("--idle-jobs", type=int, default=1000, help="in the daemon (1000)")
    parser.add_argument("--no-peers", action="store_true", help="ours and the floor only")
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help="plain directories for cgroups, to see Python's share where there is no cgroup v2",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(unknown)}")
    arguments.parts = arguments.parts or list(PARTS)
    return arguments


def _describe_machine() -> None:
    kernel = platform.release()
    uml = "user mode linux" in Path("/proc/cpuinfo").read_text().lower()
    print(f"kernel {kernel}, {os.cpu_count()} CPU(s), Python {platform.python_version()}")
    if uml:
        print(
            "User-mode Linux: a fork and a system call cost 25 times a host's, so ratios here\n"
            "are the kernel's more than ours. --stand-in shows Python's share on a host's kernel."
        )


def _workshop(directory: Path, stand_in: bool) -> launches.Workshop:
    from_repository = floor.BENCH.parent / "isolation" / "_init"
    if not stand_in:
        return launches.Workshop(directory, floor.build(directory), from_repository, stand_in)
    # By another process: what is built replaces what this one may import.
    code = "import sys; from pathlib import Path; from bench import standin\n"
    code += "standin.build(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-B", "-c", code, str(directory)], check=True)
    program = floor.build(directory, ["-include", str(standin.HEADER)])
    return launches.Workshop(directory, program, directory / "_init", stand_in)


def _measure(part: str, shop: launches.Workshop, asked: argparse.Namespace) -> None:
    share = asked.seconds / 10
    makers: dict[str, launches.Maker] = {}
    if part in ("latency", "rate"):
        makers = launches.contestants(shop, asked.clients, not asked.no_peers)
    measures: dict[str, Callable[[], None]] = {
        "latency": lambda: launches.measure_latency(shop, makers, asked.rounds, 4 * share),
        "rate": lambda: launches.measure_rate(shop, makers, asked.clients, 1.5 * share),
        "output": lambda: output.measure_output(shop, asked.mebibytes, 20, 1.5 * share),
        "stages": parts.measure_stages,
        "imports": lambda: parts.measure_imports(share),
        "calls": lambda: parts.measure_calls(shop),
        "idle": lambda: parts.measure_idle(shop),
        "daemon": lambda: daemon.measure(shop, 4 * share, asked.mebibytes, asked.idle_jobs),
    }
    measures[part]()


def main() -> None:
    arguments = _arguments()
    if os.geteuid() != 0:
        sys.exit("bench: only root can build a job's walls")
    begun = time.monotonic()
    _describe_machine()
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsup-bench-"))
        os.chmod(name, 0o755)
        if arguments.stand_in:
            stack.enter_context(standin.tree(Path(name)))
        shop = _workshop(Path(name), arguments.stand_in)
        for part in arguments.parts:
            _measure(part, shop, arguments)
    with suppress(OSError):  # an OCI runtime leaves the parent of its container's group
        os.rmdir(f"/sys/fs/cgroup/{peers.GROUP}")
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
