"""The daemon's process: what it is given by the host, how it begins and how it ends.

It ends on SIGTERM, SIGINT or SIGHUP: no more connections, answers that last are cut off (their
clients come back), what was begun is ended, and jobs go on. The lock of the state is taken first
and given back last, so that two daemons never have one state.
"""

from __future__ import annotations

from . import light  # noqa: F401 - before what it makes lighter

# isort: split
import asyncio
import faulthandler
import gc
import logging
import os
import resource
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..errors import BadValue, Forbidden
from .api.server import Server
from .engine import Engine
from .log import log, set_up
from .notify import Notifier
from .settings import Settings

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OOM_SCORE_ADJ = -900  # after everything that can be started anew without a loss


def serve(options: Mapping[str, Any]) -> int:
    """Be the daemon until a signal ends it; the exit status. Options as Settings.make has them.

    Raises:
        JobsupError: it cannot begin.
    """
    settings = Settings.make(**options)
    if os.geteuid() != 0:
        raise Forbidden("only root can be the daemon", hint="sudo jobsup serve")
    set_up(logging.DEBUG if os.environ.get("JOBSUP_DEBUG") else logging.INFO)
    _prepare()
    asyncio.run(_serve(settings))
    return 0


def _prepare() -> None:
    """What this process is to be, whoever started it."""
    os.umask(0o077)
    faulthandler.enable()  # a watchdog's SIGABRT leaves in the log where it hung
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _survive()
    # Its memory holds the environments of everybody's jobs: for no core file and no debugger.
    import prctl

    prctl.set_dumpable(False)
    prctl.set_name("jobsup")


def _survive() -> None:
    """Let the kernel kill others first."""
    path = Path("/proc/self/oom_score_adj")
    try:
        if int(path.read_text(encoding="ascii")) > _OOM_SCORE_ADJ:
            path.write_text(str(_OOM_SCORE_ADJ), encoding="ascii")
    except OSError as error:
        log.warning("oom_score_adj stays as it is", error=error)


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    ending = asyncio.Event()
    for number in _ENDING:
        loop.add_signal_handler(number, _end, ending, number)
    notifier = Notifier()
    async with AsyncExitStack() as stack:
        engine = await Engine.open(settings)
        stack.push_async_callback(engine.close)
        server = Server(engine, settings)
        stack.push_async_callback(server.close)
        _listen(server, settings.socket)
        _tidy()
        log.info("ready", socket=settings.socket, pid=os.getpid(), jobs=len(engine.jobs))
        _tell(notifier, READY="1", STATUS=f"{len(engine.jobs)} unfinished jobs")
        notifier.watch(loop)
        await ending.wait()
        _tell(notifier, STOPPING="1", STATUS="jobs go on")
    notifier.close()
    log.info("ended")


def _listen(server: Server, path: Path) -> None:
    try:
        server.listen(path)
    except OSError as error:
        why = f"cannot be listened at: {os.strerror(error.errno or 0)}"
        raise BadValue("socket", os.fspath(path), why) from None


def _end(ending: asyncio.Event, number: signal.Signals) -> None:
    log.info("ending", signal=number.name)
    ending.set()


def _tidy() -> None:
    """What is there from the beginning stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


def _tell(notifier: Notifier, **state: str) -> None:
    try:
        notifier.tell(**state)
    except OSError as error:
        log.warning("the service manager was not told", error=error)


def _unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaits goes to the log."""
    log.error(str(context.get("message", "unexpected")), error=context.get("exception"))
