"""`jobsup run`: the job in the foreground of a command line, as if it were not isolated at all.

Its output goes to our own stdout and stderr (the init writes it, so a slow reader slows the job and
nothing is dropped), our stdin goes to it through a pipe, and signals that reach us reach it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from jobsup.isolation import Job, Streams

from .conversation import Alarm, Feed, Party
from .embedded import EmbeddedJob, clear_stale
from .spec import Spec
from .verdict import Verdict

# What somebody sends to tell a program something. Not those by which the kernel tells of faults
# and children, nor those by which a terminal stops and continues the command line itself.
_PASSED_ON = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGWINCH,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
]


def run_foreground(spec: Spec) -> Verdict:
    """Run the job to its end, with our own streams and signals.

    Raises:
        JobsupError: it could not be started; nothing is left behind.
    """
    job = EmbeddedJob(spec)
    with ExitStack() as stack:
        wakeup = stack.enter_context(_caught_signals())
        stdin, feed_end = _pipe(stack) if _is_open(0) else (None, -1)
        streams = Streams(stdin, *(fd if _is_open(fd) else None for fd in (1, 2)))
        handle = job.launch(streams)
        if stdin is not None:
            os.close(stdin)
        parties: list[Party] = [Alarm(wakeup, _Passing(handle))]
        if stdin is not None:
            feed = Feed(0, feed_end)
            stack.callback(feed.close)
            parties.append(feed)
        verdict = job.see_through(parties)
    clear_stale()
    return verdict


class _Passing:
    """Passes signals on; a second interrupt means that the first was not obeyed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._interrupts = 0

    def __call__(self, number: int) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
        if self._interrupts > 1:
            self._job.kill()
        else:
            self._job.signal(number)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _pipe(stack: ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    stack.callback(_close, read_end)
    stack.callback(_close, write_end)
    return read_end, write_end


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def _caught_signals() -> Iterator[int]:
    """A descriptor from which the numbers of caught signals are read. One that is ignored (nohup,
    a shell's background job) stays ignored."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {}
    for number in _PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda *_: None)
    previous = signal.set_wakeup_fd(write_end)
    try:
        yield read_end
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read_end)
        os.close(write_end)
