"""What somebody may have meant by a command or a flag that there is not: what other tools call it,
else the word that is most like it, else nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

# docker's and systemd's -> what to type here, or a sentence when there is nothing to type.
_COMMANDS = {
    "ps": "jobsup ls",
    "list": "jobsup ls",
    "logs": "jobsup out",
    "log": "jobsup out",
    "attach": "jobsup out --follow",
    "inspect": "jobsup status",
    "show": "jobsup status",
    "stats": "jobsup status",
    "top": "jobsup status",
    "unpause": "jobsup resume",
    "freeze": "jobsup pause",
    "thaw": "jobsup resume",
    "update": "jobsup set",
    "set-property": "jobsup set",
    "remove": "jobsup rm",
    "delete": "jobsup rm",
    "create": "jobsup start",
    "submit": "jobsup start",
    "daemon": "jobsup serve",
    "info": "jobsup doctor",
    "version": "jobsup --version",
    "help": "jobsup --help",
}
_NO_COMMAND = {
    "exec": "nothing can be run inside a job yet",
    "restart": "a job is not started again by hand: jobsup start --restart POLICY says when",
    "build": "there are no images: jobsup run --root DIR takes a file tree",
    "pull": "there are no images: jobsup run --root DIR takes a file tree",
    "images": "there are no images: jobsup run --root DIR takes a file tree",
}

_FLAGS = {
    "-m": "--mem",
    "--memory": "--mem",
    "--memory-swap": "--swap",
    "--memory-reservation": "--mem-low",
    "-c": "--cpu-weight",
    "--cpu-shares": "--cpu-weight",
    "--cpuset-cpus": "--cpuset",
    "--pids-limit": "--pids",
    "-v": "--rw SRC:DST or --ro SRC:DST",
    "--volume": "--rw SRC:DST or --ro SRC:DST",
    "--mount": "--rw SRC:DST or --ro SRC:DST",
    "--bind": "--rw SRC:DST or --ro SRC:DST",
    "-w": "--cwd",
    "--workdir": "--cwd",
    "--chdir": "--cwd",
    "--working-directory": "--cwd",
    "-e": "--env",
    "-E": "--env",
    "--setenv": "--env",
    "-u": "--user",
    "--uid": "--user",
    "--gid": "--group",
    "--unit": "--name",
    "--network": "--net",
    "--ulimit": "--rlimit",
    "--cap-add": "--cap NAME",
    "--cap-drop": "--cap -NAME",
    "--timeout": "--time",
    "--stop-timeout": "--grace",
    "--on-active": "--after",
    "--on-calendar": "--every or --at",
}
_OF_START = {
    "-d": "jobsup start",
    "--detach": "jobsup start",
    "--no-block": "jobsup start",
    "--restart": "jobsup start --restart",
    "--after": "jobsup start --after",
    "--at": "jobsup start --at",
    "--every": "jobsup start --every",
    "--on-active": "jobsup start --after",
    "--on-calendar": "jobsup start --every or --at",
    "--stdin": "jobsup start --stdin",
}
_FLAGS_OF = {
    "run": _OF_START,
    "stop": {"-t": "--grace", "--time": "--grace", "--timeout": "--grace"},
    "out": {"--lines": "--tail"},
    "ls": {"--filter": "--state or --name"},
}
_TERMINAL = "a job has no terminal yet: its streams are pipes"
_NO_PORTS = "no ports are forwarded: a job has a loopback of its own, or with --net host the host's"
_BY_ITSELF = "a job that is started goes on by itself: leave it out"
_LEFT = "nothing is left over that would have to be removed"
_NO_FLAG = {
    **dict.fromkeys(("-i", "--interactive", "-t", "--tty", "--pty"), _TERMINAL),
    **dict.fromkeys(("-p", "--publish"), _NO_PORTS),
    **dict.fromkeys(("--rm", "--collect"), _LEFT),
    **dict.fromkeys(("-d", "--detach", "--no-block"), _BY_ITSELF),
    "--property": "there is a flag for each property: --help has them",
    "--privileged": "what a job may is given one by one: --cap NAME, --rw PATH, --net host",
}
_FIXED = "that is fixed when a job is started: jobsup start --help"
_NO_FLAG_OF_SET = dict.fromkeys(
    ("--time", "--timeout", "--cpu-time", "--grace", "--output-max", "--output-full"), _FIXED
)


def command(word: str, known: Collection[str], after: Sequence[str] = ()) -> str | None:
    """A hint for a command that there is not; `after` are the words that follow it."""
    if word == "help" and after and after[0] in known:
        return _question(f"jobsup {after[0]} --help")
    if word in _NO_COMMAND:
        return _NO_COMMAND[word]
    near = _nearest(word, known)
    return _question(_COMMANDS.get(word) or (near and f"jobsup {near}"))


def flag(command: str | None, word: str, similar: Iterable[str]) -> str | None:
    """A hint for a flag that this command does not have."""
    here = _FLAGS_OF.get(command or "", {}).get(word)
    if here is not None:
        return _question(here)
    if command in ("run", "start") and word in _NO_FLAG:
        return _NO_FLAG[word]
    if command == "set" and word in _NO_FLAG_OF_SET:
        return _NO_FLAG_OF_SET[word]
    elsewhere = _FLAGS.get(word) if command in ("run", "start", "set") else None
    return _question(elsewhere or _nearest(word, similar))


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """Dashes make nothing alike: --rm is not --rw."""
    from difflib import get_close_matches  # only on the way to an error

    bare = {each.lstrip("-"): each for each in known}
    close = get_close_matches(word.lstrip("-"), bare, 1)
    return bare[close[0]] if close else None


def _question(meant: str | None) -> str | None:
    return f"did you mean {meant}?" if meant else None
