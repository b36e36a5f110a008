"""How other tools run the same command behind comparable walls.

Comparable: the host's root read-only, new pid, mount, network, uts and ipc namespaces, 64 MiB of
memory where the tool has such a limit. None has jobsup's masks, output capture and verdict. A peer
that is not installed, or that cannot run here, is left out with the reason.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

COMMAND = "/bin/true"
MEMORY = 64 << 20
GROUP = "jobsup-bench"  # the cgroup of the OCI runtimes' own
OCI_NAMESPACES = ("pid", "mount", "network", "uts", "ipc")


class Peer(NamedTuple):
    """How a tool is called; `under` is what the process that calls it over and over runs under."""

    argv: list[str]
    under: Sequence[str] = ()


def unshare(_: Path) -> Peer:
    """util-linux: the namespaces alone; the root stays writable and nothing is limited."""
    namespaces = "--pid --mount --net --uts --ipc".split()
    return Peer(["unshare", "--fork", *namespaces, "--mount-proc", "--", COMMAND])


def bwrap(_: Path) -> Peer:
    """bubblewrap: no limits."""
    namespaces = "--unshare-pid --unshare-net --unshare-uts --unshare-ipc".split()
    files = "--ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --tmpfs /run".split()
    return Peer(["bwrap", *namespaces, *files, "--die-with-parent", "--", COMMAND])


def _bundle(directory: Path, name: str) -> Path:
    """An OCI bundle whose root is the host's, as `runc spec` would make it. The root directory
    is a place to bind / on: neither of them can pivot into / itself."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    ]
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "args": [COMMAND],
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
        },
        "root": {"path": "root", "readonly": True},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": name} for name in OCI_NAMESPACES],
            "resources": {"memory": {"limit": MEMORY}},
            "cgroupsPath": f"/{GROUP}/{directory.name}-{name}",
        },
    }
    bundle = directory / name
    (bundle / "root").mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def _bound(bundle: Path) -> list[str]:
    """What the server of an OCI runtime runs under: mounts of its own, which end with it, where
    the bundle's root is a bind of /, without what is mounted below."""
    script = 'mount --bind / "$0/root" && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(bundle)]


def crun(directory: Path) -> Peer:
    bundle = _bundle(directory, "crun")
    state = f"--root={directory}/crun-state"
    command = ["crun", state, "--cgroup-manager=cgroupfs", "run", f"--bundle={bundle}", "bench"]
    return Peer(command, _bound(bundle))


def runc(directory: Path) -> Peer:
    bundle = _bundle(directory, "runc")
    command = ["runc", f"--root={directory}/runc-state", "run", f"--bundle={bundle}", "bench"]
    return Peer(command, _bound(bundle))


def systemd_run(_: Path) -> Peer:
    if not Path("/run/systemd/system").is_dir():
        raise RuntimeError("systemd is not PID 1 here")
    walls = (
        "ProtectSystem=strict PrivateNetwork=yes PrivateIPC=yes PrivateTmp=yes ProtectHostname=yes"
    )
    limits = [f"--property={item}" for item in [*walls.split(), f"MemoryMax={MEMORY}"]]
    return Peer(["systemd-run", "--quiet", "--wait", "--collect", *limits, COMMAND])


def nsjail(_: Path) -> Peer:
    limit = ["--use_cgroupv2", "--cgroup_mem_max", str(MEMORY)]
    return Peer(["nsjail", "--mode", "o", "--quiet", "--chroot", "/", *limit, "--", COMMAND])


def isolate(_: Path) -> Peer:
    """Its box has to be there; its own cgroup is systemd's doing, so it runs without a limit."""
    subprocess.run(["isolate", "--init"], check=True, capture_output=True)
    return Peer(["isolate", "--run", "--", COMMAND])


PEERS: dict[str, Callable[[Path], Peer]] = {
    "unshare": unshare,
    "bwrap": bwrap,
    "crun": crun,
    "runc": runc,
    "nsjail": nsjail,
    "isolate": isolate,
    "systemd-run": systemd_run,
}


# The ones that make no cgroup: beside the stand-in, nothing of the host's is to be changed.
WITHOUT_CGROUPS = {"unshare", "bwrap"}


def find(name: str, directory: Path) -> Peer:
    """How to call a peer, tried once; what it needs is made in `directory`.

    Raises:
        RuntimeError: why there is none here.
    """
    if shutil.which(name) is None:
        raise RuntimeError("not installed")
    try:
        peer = PEERS[name](directory)
        tried = [*peer.under, *peer.argv]
        subprocess.run(tried, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise RuntimeError(words[-1][-100:]) from error
    return peer
