"""The machine that QEMU emulates: emulator.py KERNEL MEMORY KERNEL-ARGUMENTS PORT... DISK...

Runs behind the wall of uml/host.py, in its pid namespace, so that nothing outlives the guest.  The
root is the host's, by virtiofs: there is no image to make, and no initial RAM disk, since Debian's
cloud kernel has virtiofs built in.  The guest asks for everything once and keeps it.  What may be
written is for the wall to say, not for the mount, through which the shared directories come, too.

The first five PORTs are descriptors: two outputs, two inputs, one output (see uml/command).  QEMU
takes paths, and a pipe for input only as a pair of files, of which the other is never written.
"""

import os
import shutil
import socket
import subprocess
import sys

RUN = "/sys"
PROCESSORS = 2
# Debian 12 has it as a part of QEMU, later ones have another that takes other options.
VIRTIOFSD = {
    "/usr/lib/qemu/virtiofsd": "-o source=/,cache=always,sandbox=chroot,log_level=err",
    "/usr/libexec/virtiofsd": "--shared-dir=/ --cache=always --sandbox=chroot --log-level=error",
}


def start_virtiofsd() -> list[str]:
    """The server of the root; returns QEMU's options for its client."""
    server, options = next((s, o) for s, o in VIRTIOFSD.items() if shutil.which(s))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{RUN}/virtiofs")
        listening.listen()
        fd = listening.fileno()
        subprocess.Popen([server, f"--fd={fd}", *options.split()], pass_fds=[fd])
    return [
        "-chardev", f"socket,id=root,path={RUN}/virtiofs",
        "-device", "vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024",
    ]  # fmt: skip


def output(name: str, fd: str) -> str:
    return f"file,id={name},path=/dev/fd/{fd}"


def input_(name: str, fd: str) -> str:
    os.symlink(f"/dev/fd/{fd}", f"{RUN}/{name}.in")
    os.symlink("/dev/null", f"{RUN}/{name}.out")
    return f"pipe,id={name},path={RUN}/{name}"


def ports(out: str, err: str, feeding: str, control: str, report: str) -> list[str]:
    options = ["-device", "virtio-serial-pci"]
    ends = (
        output("out", out), output("err", err), input_("feeding", feeding),
        input_("control", control), output("report", report),
    )  # fmt: skip
    for number, end in enumerate(ends, 1):
        name = end.split(",")[1].removeprefix("id=")
        options += ["-chardev", end, "-device", f"virtserialport,chardev={name},nr={number}"]
    return options


def disks(paths: list[str]) -> list[str]:
    options = []
    for path in paths:
        options += ["-drive", f"file={path},if=virtio,format=raw,cache=unsafe"]
    return options


def main() -> None:
    kernel, memory, arguments, *rest = sys.argv[1:]
    root = start_virtiofsd()
    # What costs time in an emulation and guards nothing in one. The second processor is switched on
    # by the guest's init: the kernel rewrites its own code while it boots, and one time in fifty
    # another emulated processor, on a busy host, executed what was there a moment before.
    quick = "mitigations=off nowatchdog tsc=reliable maxcpus=1"
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35,memory-backend=memory,usb=off,smbus=off,sata=off",
        "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off", "-smp", str(PROCESSORS),
        "-m", memory, "-object", f"memory-backend-memfd,id=memory,size={memory},share=on",
        "-chardev", f"file,id=log,path={RUN}/log,append=on", "-serial", "chardev:log",
        *ports(*rest[:5]), *root, *disks(rest[5:]), "-kernel", kernel, "-append",
        f"root=root rootfstype=virtiofs rw console=ttyS0 printk.time=0 {quick} {arguments}",
    ]  # fmt: skip
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
