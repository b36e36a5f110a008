"""The host's half of vagrant/guest: host.py SECONDS WRITABLE... -- KERNEL ARGUMENT...

Runs the guest's kernel, or its emulator, behind a wall, carries the command's streams and signals,
and ends as the command ended.  It runs in the private mount namespace that vagrant/guest made, with
the runner's tmpfs on /sys; `command` is the other half, and says which console carries what.  In
the kernel's arguments {out}, {err}, {feeding}, {control}, {report} and {log} stand for descriptors.

A console cannot signal the end of input, and takes one byte a system call.  So stdin travels as
files: stdin/0, stdin/1, ... in GUEST, each announced by its number on a console and
removed when the guest has taken it, then "end".  While the guest takes one, the next one fills.

Every stream is copied by a thread with blocking calls, since User-mode Linux makes its descriptors
non-blocking, which must never happen to a descriptor that the caller shares with others.
"""

import contextlib
import ctypes
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

RUN = "/sys"
GUEST = f"{RUN}/guest"  # what the guest keeps of it, as /run/guest/host
PIECE = 4 << 20  # bytes of stdin that travel at once
PIECES_AHEAD = 2  # pieces that wait for the guest
GRACE = 10.0  # seconds for a command to obey before the guest is powered off
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

libc = ctypes.CDLL(None, use_errno=True)
events: "queue.SimpleQueue[tuple[str, int]]" = queue.SimpleQueue()


def fail(message: str, status: int) -> NoReturn:
    os.write(2, f"vagrant/guest: {message}\n".encode())
    os._exit(status)


# --- the wall -------------------------------------------------------------------------------------


def set_read_only(path: str, read_only: bool) -> None:
    """Every mount below path, recursively; mount(8) can do this only since util-linux 2.39."""
    sys_mount_setattr, at_fdcwd, at_recursive, rdonly = 442, -100, 0x8000, 1
    attr = (ctypes.c_uint64 * 4)(*((rdonly, 0) if read_only else (0, rdonly)), 0, 0)
    if libc.syscall(
        sys_mount_setattr, at_fdcwd, os.fsencode(path), at_recursive, attr, ctypes.sizeof(attr)
    ):
        fail(f"cannot remount {path}: {os.strerror(ctypes.get_errno())} (needs Linux 5.12)", 125)


def start_kernel(command: list[str], fds: tuple[int, ...], log: int) -> "subprocess.Popen[bytes]":
    """The kernel in a pid namespace of its own, which ends when this process does.

    The shell in the middle is that namespace's PID 1: a kernel that is PID 1 itself hangs when it
    panics, since the SIGABRT it sends itself is dropped.  Its own session keeps a terminal's
    Ctrl-C away from the kernel, which would die of it.
    """
    inner = 'mount -n -t proc -o ro proc /proc; "$@"; exit $?'
    outer = '[ $PPID = "$1" ] || exit; shift; exec "$@"'  # our end before pdeathsig was set
    return subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "sh", "-c", outer, "sh", str(os.getpid())]
        + ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]
        + ["sh", "-c", inner, "sh", *command],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, start_new_session=True,
    )  # fmt: skip


# --- the streams ----------------------------------------------------------------------------------


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def tell(console: int, message: str) -> None:
    with contextlib.suppress(OSError):  # the guest has ended
        os.write(console, f"{message}\n".encode())


def copy_out(source: int, target: int, control: int, mark: str) -> None:
    """One output stream, to the mark that the guest puts at its end: the status comes another way,
    and may be here first.  When the reader is gone the guest is told, and the rest is dropped."""
    end, held, lost = mark.encode(), b"", False
    while held != end:
        data = os.read(source, 1 << 20)
        held += data
        # What may be the beginning of the mark waits for what follows, if anything does.
        begun = next(n for n in range(len(end) if data else 0, -1, -1) if held.endswith(end[:n]))
        ready, held = held[: len(held) - begun], held[len(held) - begun :]
        if not lost:
            try:
                write_all(target, ready)
            except OSError:
                lost = True
                tell(control, f"close {target}")
        if not data:
            break
    events.put(("drained", target))


def feed(console: int, taken: int, ready: threading.Event) -> None:
    """Stdin, as it comes: what is there goes at once, and what comes while the guest is busy
    with PIECES_AHEAD pieces gathers up to PIECE bytes."""
    ready.wait()
    gathered, number, ahead, reading = bytearray(), 0, 0, True
    while reading or gathered:
        sources = [0] if reading and len(gathered) < PIECE else []
        can_send = bool(gathered) and ahead < PIECES_AHEAD
        there = select.select([*sources, taken], [], [], 0 if can_send else None)[0]
        if taken in there:
            ahead -= len(os.read(taken, 64))
        if 0 in there:
            try:
                data = os.read(0, PIECE - len(gathered))
            except OSError:  # a directory, say, is an empty stdin
                data = b""
            gathered += data
            reading = bool(data)  # not read again: a terminal's end of file is there only once
        elif can_send:
            with open(f"{GUEST}/stdin/{number}", "wb") as file:
                file.write(gathered)
            gathered.clear()
            tell(console, f"{number}")
            number += 1
            ahead += 1
    tell(console, "end")


def listen(console: int, taken: int, ready: threading.Event) -> None:
    with open(console, encoding="ascii", errors="replace") as reports:
        for line in reports:
            word, _, number = line.strip().partition(" ")
            if word == "ready":
                ready.set()
                events.put(("ready", 0))
            elif word == "taken":
                os.unlink(f"{GUEST}/stdin/{number}")
                os.write(taken, b".")
            elif word == "status":
                events.put(("status", int(number)))
    events.put(("gone", 0))


# --- the run --------------------------------------------------------------------------------------


def main() -> NoReturn:
    seconds = float(sys.argv[1])
    split = sys.argv.index("--")
    writable, command = sys.argv[2:split], sys.argv[split + 1 :]
    set_read_only("/", True)
    for path in writable:
        set_read_only(path, False)

    mark = os.urandom(16).hex()
    Path(GUEST, "mark").write_text(f"{mark}\n")
    out, err, feeding, control, report = (os.pipe() for _ in range(5))
    log = os.open(f"{RUN}/log", os.O_WRONLY | os.O_APPEND)
    ends = {"log": log, "out": out[1], "err": err[1], "feeding": feeding[0],
            "control": control[0], "report": report[1]}  # fmt: skip
    for name, fd in ends.items():
        command = [word.replace(f"{{{name}}}", str(fd)) for word in command]
    for sig in SIGNALS:
        if signal.getsignal(sig) is not signal.SIG_IGN:  # nohup, and a shell's background
            signal.signal(sig, lambda number, _: events.put(("signal", number)))
    pr_set_child_subreaper = 36  # so that we can wait for the namespace's PID 1 as well
    libc.prctl(pr_set_child_subreaper, 1)
    kernel = start_kernel(command, tuple(ends.values()), log)
    for name in ends.keys() - {"log"}:
        os.close(ends[name])

    taken, ready = os.pipe(), threading.Event()
    for target, args in (
        (copy_out, (out[0], 1, control[1], mark)),
        (copy_out, (err[0], 2, control[1], mark)),
        (feed, (feeding[1], taken[0], ready)),
        (listen, (report[0], taken[1], ready)),
    ):
        threading.Thread(target=target, args=args, daemon=True).start()
    os._exit(Run(kernel, control[1], seconds).follow())


class Run:
    """Follows the guest until it is gone and its output is with the caller."""

    def __init__(self, kernel: "subprocess.Popen[bytes]", control: int, seconds: float) -> None:
        self.kernel, self.control, self.seconds = kernel, control, seconds
        self.limit = time.monotonic() + seconds if seconds else float("inf")
        self.overdue = float("inf")  # when a signal that has not been obeyed cuts the power
        self.last_signal = self.interrupts = 0
        self.ready, self.early = False, list[int]()  # signals before the guest listened
        self.status: int | None = None

    def follow(self) -> int:
        """The exit status."""
        drained, ended = 0, False
        while drained < 2 or not ended:
            event, number = self.next_event()
            drained += event == "drained"
            ended |= event in {"gone", "status"}
            if event == "ready":
                self.ready = True
                for early in self.early:
                    self.pass_on(early)
            elif event == "status":
                self.status = number
            elif event == "signal":
                self.take_signal(number)
        if self.status is None:
            self.explain()
        power_off(self.kernel)
        return self.status

    def next_event(self) -> tuple[str, int]:
        end = min(self.limit, self.overdue)
        try:
            return events.get(
                timeout=max(0, end - time.monotonic()) if end < float("inf") else None
            )
        except queue.Empty:
            power_off(self.kernel)
            if self.overdue < self.limit:
                os._exit(128 + self.last_signal)
            fail(f"no end within {self.seconds:g} s", 124)

    def take_signal(self, number: int) -> None:
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 2 or self.status is not None:
            power_off(self.kernel)
            os._exit(128 + number)
        if self.interrupts == 2 or number in (signal.SIGTERM, signal.SIGHUP):
            self.overdue = min(self.overdue, time.monotonic() + GRACE)
            self.last_signal = number
        if self.ready:
            self.pass_on(number)
        else:
            self.early.append(number)

    def pass_on(self, number: int) -> None:
        tell(self.control, f"signal {signal.Signals(number).name[3:]}")

    def explain(self) -> NoReturn:
        """No answer: what the kernel said last, without the stack trace."""
        code = power_off(self.kernel)
        with open(f"{RUN}/log", "rb") as log:
            told = [line for line in log if not line.startswith(b" ")]
        os.write(2, b"".join(told[-25:]))
        fail(f"the guest ended without an answer (kernel's exit status {code}); see above", 125)


def power_off(kernel: "subprocess.Popen[bytes]") -> int:
    """Kills the guest and waits for its last process; returns how the kernel ended."""
    with contextlib.suppress(ProcessLookupError):
        kernel.kill()
    code = kernel.wait()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return code


if __name__ == "__main__":
    main()
