"""A job shares no namespace with the host: processes, network, names, message queues, cgroups."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.kernel.inside import ask, place, portrait
from tests.kernel.jobs import Jobs

NAMESPACES = "cgroup ipc mnt net pid uts".split()
libc = ctypes.CDLL(None, use_errno=True)


def test_a_job_shares_no_namespace_with_its_caller(jobs: Jobs) -> None:
    files = [f"/proc/self/ns/{name}" for name in NAMESPACES]
    there = dict(
        zip(NAMESPACES, jobs.run(["readlink", *files]).stdout.decode().split(), strict=True)
    )
    here = {name: os.readlink(file) for name, file in zip(NAMESPACES, files, strict=True)}
    assert {name for name in NAMESPACES if there[name] == here[name]} == set()


def test_two_jobs_share_no_namespace(jobs: Jobs) -> None:
    files = [f"/proc/self/ns/{name}" for name in NAMESPACES]
    running = [jobs.start(["sh", "-c", f"readlink {' '.join(files)}; read line"], stdin=-1)
               for _ in range(2)]  # fmt: skip
    first, second = ([job.line() for _ in NAMESPACES] for job in running)
    assert not set(first) & set(second)
    for job in running:
        job.stdin.close()


# ---- names


def test_the_host_name_is_the_jobs_own(jobs: Jobs) -> None:
    assert jobs.run(["hostname"]).stdout == b"job\n"
    assert jobs.run(["hostname"], hostname="box").stdout == b"box\n"
    assert os.uname().nodename not in ("job", "box")


# ---- cgroups


def test_its_leaf_is_the_root_of_its_cgroups_from_the_first_instruction(jobs: Jobs) -> None:
    """The command itself reads it, so it was in its leaf before it was the command."""
    assert jobs.run(["cat", "/proc/self/cgroup"]).stdout == b"0::/\n"
    assert jobs.run(["sh", "-c", "sh -c 'cat /proc/self/cgroup' & wait"]).stdout == b"0::/\n"


def test_who_sizes_itself_by_its_limits_finds_them(jobs: Jobs) -> None:
    """As the JVM looks: the cgroup2 mount of mountinfo, the path of /proc/self/cgroup below it."""
    job = portrait(jobs, mem="64M", cpus=0.5, pids=100)
    (mount,) = [line for line in job["mountinfo"].splitlines() if " - cgroup2 " in line]
    root, target = mount.split(" ")[3:5]
    path = job["cgroup"].strip().removeprefix("0::")
    assert (root, path) == ("/", "/")
    files = [f"{target}{path}{name}" for name in ("memory.max", "cpu.max", "pids.max")]
    found = ask(jobs, "try_paths", "read", *files, mem="64M", cpus=0.5, pids=100)
    assert list(found.values()) == ["=67108864\n", "=50000 100000\n", "=100\n"]


@pytest.mark.parametrize("cap", ["dac_override", "all"])
def test_its_cgroup_cannot_be_written(jobs: Jobs, cap: str) -> None:
    names = (
        "memory.max memory.high pids.max cgroup.procs cgroup.kill cgroup.subtree_control".split()
    )
    files = ["/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in names)]
    outcomes = ask(jobs, "try_paths", "write", *files, mem="64M", cap=[cap])
    assert outcomes == dict.fromkeys(files, "EROFS")


# ---- processes and message queues


def test_system_v_objects_are_the_jobs_own(jobs: Jobs) -> None:
    key, create = 0x4A4F4253, 0o1600  # IPC_CREAT
    shm, queue = libc.shmget(key, 4096, create), libc.msgget(key, create)
    semaphore = libc.semget(key, 1, create)
    try:
        assert min(shm, queue, semaphore) >= 0
        said = jobs.run(["sh", "-c", "ipcs; ipcmk -M 4096 -Q -S 1"]).stdout.decode()
    finally:
        libc.shmctl(shm, 0, None)
        libc.msgctl(queue, 0, None)
        libc.semctl(semaphore, 0, 0)
    assert "0x4a4f4253" not in said
    assert said.count("id: 0") == 3, "the first of its kind"


def test_posix_queues_are_the_jobs_own(jobs: Jobs) -> None:
    """Each also in the other direction: what a job makes is gone with it."""
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = librt.mq_open(b"/jobsup-test", os.O_CREAT | os.O_RDWR, 0o600, None)
    assert queue >= 0
    try:
        job = jobs.run(["sh", "-c", "ls /dev/mqueue; touch /dev/mqueue/of-the-job; ls /dev/mqueue"])
    finally:
        os.close(queue)
        librt.mq_unlink(b"/jobsup-test")
    assert job.stdout == b"of-the-job\n", job.stderr
    assert librt.mq_open(b"/of-the-job", os.O_RDWR) < 0


# ---- network


@contextmanager
def listening(family: socket.AddressFamily, address: object) -> Iterator[socket.socket]:
    """A server that says "reached" to whoever comes."""
    with socket.socket(family) as server:
        server.bind(address)  # type: ignore[arg-type]
        server.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client = server.accept()[0]
                    client.sendall(b"reached")
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def connect(address: object, family: str = "AF_INET") -> list[str]:
    program = "import socket, sys; s = socket.socket(socket.{}); s.connect({!r}); print(s.recv(99))"
    return ["/usr/bin/python3", "-c", program.format(family, address)]


def test_the_hosts_loopback_is_out_of_reach(jobs: Jobs) -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        alone = jobs.run(connect(server.getsockname()))
        shared = jobs.run(connect(server.getsockname()), net="host")
    assert b"ConnectionRefusedError" in alone.stderr
    assert shared.stdout == b"b'reached'\n", "which is what --net host is for"


def test_the_hosts_abstract_sockets_are_out_of_reach(jobs: Jobs) -> None:
    """They belong to a network namespace, and have no permissions (CVE-2020-15257)."""
    with listening(socket.AF_UNIX, "\0jobsup-test"):
        alone = jobs.run(connect("\0jobsup-test", "AF_UNIX"))
        shared = jobs.run(connect("\0jobsup-test", "AF_UNIX"), net="host")
    assert b"ConnectionRefusedError" in alone.stderr
    assert shared.stdout == b"b'reached'\n"


def test_loopback_is_up_and_the_only_interface(jobs: Jobs) -> None:
    """Some kernels add tunnels to every new namespace (sit0), which are down and lead nowhere."""
    program = """if 1:
    import os, socket
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname())
    for name in os.listdir("/sys/class/net"):
        print(name, int(open(f"/sys/class/net/{name}/flags").read(), 16) & 1)
    """
    job = jobs.run(["/usr/bin/python3", "-c", program], user="nobody")
    interfaces = dict(line.split() for line in job.stdout.decode().splitlines())
    assert [name for name, up in interfaces.items() if up == "1"] == ["lo"], job.stderr
    fresh = subprocess.run(
        ["unshare", "--net", "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
    ).stdout
    assert set(interfaces) == {line.split(":")[0].strip() for line in fresh.splitlines()[2:]}


def test_net_host_sees_the_hosts_interfaces(jobs: Jobs) -> None:
    job = portrait(jobs, net="host")
    names = {line.split(":")[0].strip() for line in job["net/dev"].splitlines()[2:]}
    assert names == {name for _, name in socket.if_nameindex()}
    listed = ask(jobs, "try_paths", "read", "/sys/class/net", net="host")["/sys/class/net"]
    assert set(listed[1:].split()) >= names


def test_a_socket_that_a_job_may_see_can_be_reached(jobs: Jobs) -> None:
    """A pathname socket knows no network: who hides nothing of it grants it."""
    with place() as directory, listening(socket.AF_UNIX, str(directory / "socket")):
        job = jobs.run(connect(str(directory / "socket"), "AF_UNIX"))
    assert job.stdout == b"b'reached'\n"
