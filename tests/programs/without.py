"""Run a command as on a kernel that lacks something, or in a container that forbids it.

    without.py [call NAME[:FIRST_ARGUMENT] ERRNO]… [file NAME]… [type KIND ERRNO]… -- COMMAND…

`call` makes a system call fail; `file` makes the open of every file of that name fail with ENOENT;
`type` makes a file system unknown to fsopen. All by a seccomp filter, which the command and its
children cannot leave; for names, which a filter cannot read, it asks this process each time.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import sys

X86 = platform.machine() == "x86_64"
CALLS = {
    "openat": 257 if X86 else 56,
    "mknodat": 259 if X86 else 33,
    "unshare": 272 if X86 else 97,
    "pivot_root": 155 if X86 else 41,
    "prctl": 157 if X86 else 167,
    "seccomp": 317 if X86 else 277,
    "memfd_create": 319 if X86 else 279,
    "execveat": 322 if X86 else 281,
    "ioctl": 16 if X86 else 29,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
ALLOW, FAIL, ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*
GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def instruction(code: int, value: int, skip_if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, 0, skip_if_not, value)


def rule(call: str, action: int) -> bytes:
    name, _, argument = call.partition(":")
    code = instruction(RETURN, action)
    if argument:
        code = instruction(EQUAL, int(argument, 0), 1) + code
        code = instruction(LOAD, FIRST_ARGUMENT) + code
    return instruction(LOAD, NUMBER) + instruction(EQUAL, CALLS[name], len(code) // 8) + code


def install(rules: bytes) -> int:
    """The filter for this process and what it becomes; a descriptor of its questions."""
    code = rules + instruction(RETURN, ALLOW)
    program = Program(len(code) // 8, code)
    set_mode_filter, new_listener = 1, 8
    listener = libc.syscall(CALLS["seccomp"], set_mode_filter, new_listener, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def answer(listener: int, files: set[bytes], types: dict[bytes, int]) -> None:
    question = bytearray(80)  # struct seccomp_notif
    try:
        fcntl.ioctl(listener, RECEIVE, question)
        number, pid, _, call, _, _, first, second = struct.unpack_from("=QIIiIQQQ", question)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        opened = call == CALLS["openat"]
        start = second if opened else first
        # To the end of its page: the next one may not be there. At NULL nothing is.
        data = os.pread(memory, 4096 - start % 4096, start) if start else b""
        name = data.partition(b"\0")[0]
        os.close(memory)
        error = types.get(name, 0)
        if opened:
            error = errno.ENOENT if os.path.basename(name) in files else 0
        fcntl.ioctl(listener, SEND, struct.pack("=QqiI", number, 0, -error, 0 if error else GO_ON))
    except FileNotFoundError:
        pass  # it died before the answer


def main() -> int:
    split = sys.argv.index("--")
    words, command = sys.argv[1:split], sys.argv[split + 1 :]
    rules, files, types = b"", set(), {}
    while words:
        kind = words.pop(0)
        if kind == "call":
            rules += rule(words.pop(0), FAIL | getattr(errno, words.pop(0)))
        elif kind == "file":
            files.add(words.pop(0).encode())
        else:
            name = words.pop(0).encode()
            types[name] = getattr(errno, words.pop(0))
    rules += rule("openat", ASK) if files else b""
    rules += rule("fsopen", ASK) if types else b""

    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        socket.send_fds(theirs, [b"."], [install(rules)])
        theirs.close()
        os.execvp(command[0], command)
    listener = socket.recv_fds(ours, 1, 1)[1][0]
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not poll.poll()[0][1] & select.POLLHUP:  # until nobody is left to ask
        answer(listener, files, types)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
