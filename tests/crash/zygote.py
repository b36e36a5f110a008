"""A process that has imported the daemon and forks one whenever it is told to.

Starting Python takes a second in the guest, and a storm starts a thousand daemons. What is forked
is a daemon like any other: a process of its own, which runs the program's own entry point, and dies
of a real SIGKILL.

Commands are lines of JSON on stdin, and one line answers each: {"start": [argument, ...],
"env": {...}, "log": path} is answered with the pid, {"reap": pid} with its wait status, once it has
ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    import jobsup.cli.main
    import jobsup.supervisor.daemon.serve  # noqa: F401 - imported for those that are forked

    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "start" in command:
            print(_start(command), flush=True)
        else:
            print(os.waitpid(command["reap"], 0)[1], flush=True)


def _start(command: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            status = _serve(command)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def _serve(command: dict[str, Any]) -> int:
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(command["env"])
    # It reads its environment on import, and has been imported.
    from jobsup.isolation import killpoints

    importlib.reload(killpoints)
    from jobsup.cli.main import main as jobsup

    sys.argv = ["jobsup", *command["start"]]
    try:
        jobsup()
    except SystemExit as error:
        return int(error.code or 0)


if __name__ == "__main__":
    main()
