"""`jobsup run`: the job in the foreground of a command line, as if it were not isolated at all.

Its output goes to our own stdout and stderr (the init writes it, so a slow reader slows the job and
nothing is dropped), our stdin goes to it through a pipe, and signals that reach us reach it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from jobsup.isolation import Job, Streams

from .conversation import Alarm
from .embedded import EmbeddedJob, clear_stale
from .spec import Spec
from .verdict import Verdict
from .wiring import Wiring, is_open

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


def run_foreground(spec: Spec, *, stdin: bool = True) -> Verdict:
    """Run the job to its end, with our own streams and signals; without `stdin` it reads nothing
    and ours is left alone.

    Raises:
        JobsupError: it could not be started; nothing is left behind.
    """
    job = EmbeddedJob(spec)
    own = [is_open(number) for number in range(3)]
    with ExitStack() as stack:
        wakeup = stack.enter_context(caught_signals())
        wiring = Wiring(stack)
        feed = wiring.feed(0) if stdin and own[0] else None
        out, err = (number if own[number] else wiring.nowhere() for number in (1, 2))
        handle = job.launch(Streams(feed, out, err))
        wiring.close_theirs()
        verdict = job.see_through([Alarm(wakeup, _Passing(handle)), *wiring.parties])
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


@contextmanager
def caught_signals() -> Iterator[int]:
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
