"""`tools/in_guest.py WHY ARGS…` is `jobsup ARGS…` on a host that cannot run jobs, because of WHY.

Only `jobsup run` needs a kernel with cgroup v2: it goes into the guest. Everything else stays on
the host: help, a dry run, a client's question, and `doctor`, which is to tell of this host.

The guest sees the host's files read-only, has a /tmp, /run and /dev of its own, and forgets what
is written, except in the directories that it shares: the current one, and those that the options
below name. A path that is named in any other way (in the command itself, or in a file) is not
shared. Put `--` before the command, or its own options are taken for jobsup's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
JOBSUP = [sys.executable, "-I", "-B", "-m", "jobsup"]

STAYS = {"--help", "-h", "--version", "--dry-run"}
# option -> how the guest gets the directory; of a file, that is the one it lies in
PATH_OPTIONS = {
    "--rw": "--rw",
    "--ro": "--ro",
    "--root": "--ro",
    "--json": "--rw",
    "--env-file": "--ro",
}


def own_words(args: list[str]) -> list[str]:
    """Return the words that are jobsup's, without the command after `--`."""
    return args[: args.index("--")] if "--" in args else args


def runs_a_job(words: list[str]) -> bool:
    return "run" in words and STAYS.isdisjoint(words)


def named_paths(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (share option, path) for each path option, written `--rw PATH` or `--rw=PATH`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        path = value if equals else following
        if option in PATH_OPTIONS:
            yield PATH_OPTIONS[option], path.partition(":")[0]  # `--rw HOST:INSIDE`


def shares(words: list[str], cwd: Path) -> list[str]:
    """Return the guest's --rw and --ro options: each directory once, the stronger word wins."""
    wanted = {REPO: "--ro"}
    for option, name in [*named_paths(words), ("--rw", ".")]:
        path = (cwd / name).resolve()
        directory = path if path.is_dir() else path.parent
        if directory.is_dir() and directory != Path("/"):  # /dev and /proc are not to be shared
            wanted[directory] = max(option, wanted.get(directory, "--ro"))  # "--ro" < "--rw"
    return [word for path, option in wanted.items() for word in (option, str(path))]


def main() -> None:
    """Become jobsup on the host, or the guest that runs it."""
    why, *args = sys.argv[1:]
    words = own_words(args)
    if not runs_a_job(words):
        os.execv(JOBSUP[0], [*JOBSUP, *args])
    sys.stderr.write(f"jobsup: {why}; running in the bundled guest kernel\n")
    sys.stderr.flush()
    need = [str(REPO / "tools" / "need"), "user-mode-linux", "iproute2", "kmod"]
    if subprocess.run(need, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(125)  # jobsup's own status for "could not be started"; `need` said why
    guest = str(REPO / "vagrant" / "guest")
    options = ["--timeout", "0", *shares(words, Path.cwd())]
    for name in os.environ:
        options += ["--env", name]
    os.execv(guest, [guest, *options, "--", *JOBSUP, *args])


if __name__ == "__main__":
    main()
