"""A daemon whose whole state lies on a file system of a few MiB, in memory or ext4 on a disk.

What a job writes and there is no room for is lost, and its verdict says how much; everything else
that a daemon does for its jobs goes on.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.conftest import served
from tests.daemon.served import Served
from tests.machine import JOBSUP, PATIENCE, leaves

SIZE = 12 << 20
FLOOD = 24 << 20


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory that has room for SIZE at most."""
    place = tmp_path / "small"
    place.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "tmpfs", str(place)]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(place)]
    subprocess.run(command, check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def cramped(small: Path) -> Iterator[Served]:
    with served(state=small / "state") as daemon:
        yield daemon


def wait_full(place: Path) -> None:
    """Until not even a small file has room."""
    while not _is_full(place):
        pass


def _is_full(place: Path) -> bool:
    probe = place / "probe"
    try:
        probe.write_bytes(b"x" * 65536)
    except OSError:
        return True
    finally:
        probe.unlink(missing_ok=True)
    return False


def test_a_flood_costs_its_own_output_and_nothing_else(cramped: Served, small: Path) -> None:
    daemon = cramped
    quiet = daemon.shell("trap 'echo heard; exit 5' TERM; while :; do sleep 0.1; done")
    flood = daemon.shell(f"head -c {FLOOD} /dev/zero; exec sleep 1000")
    wait_full(small)
    while daemon.api.status(flood)["current"]["pids"] > 1:
        pass  # head is still there

    # Status, list, wait and output are answered as ever.
    assert daemon.api.status(flood)["state"] == "running"
    assert {line["id"] for line in daemon.api.all()} == {quiet, flood}
    told = daemon.api.call("GET", f"/jobs/{flood}/wait", timeout=0)
    assert told["state"] == "running"
    assert daemon.ask("GET", f"/jobs/{flood}/out?tail=0").status == 200

    # A new job is refused, and why is said; or it runs, and its verdict says what was lost.
    answer = daemon.ask("POST", "/jobs/run", {"argv": ["echo", "new"], "cwd": "/"})
    print(f"\na new job on a full disk: {answer.status} {answer.body.decode()[:300]}")
    if answer.status == 201:
        ended = daemon.api.wait(answer.said["id"])
        assert ended["state"] in ("completed", "failed")
        assert ended["verdict"]["output"]["lost_bytes"] > 0 or ended["output"]["stdout_bytes"] == 4
    else:
        assert (answer.status, answer.code) in ((507, "storage-full"), (503, "launch-failed"))
        assert {line["id"] for line in daemon.api.all()} == {quiet, flood}

    # Both can be stopped, and the quiet one is its old self.
    daemon.api.stop(quiet)
    ended = daemon.api.wait(quiet)
    print(f"stopped on a full disk: {json.dumps(ended['verdict'])}")
    assert (ended["state"], ended["verdict"]["exit_code"]) == ("stopped", 5)
    daemon.api.call("PUT", f"/jobs/{flood}/kill")
    ended = daemon.api.wait(flood)
    output = ended["verdict"]["output"]
    print(f"the flood: {json.dumps(output)}: {ended['verdict']['message']}")
    assert output["lost_bytes"] > 0
    assert output["stdout_bytes"] + output["lost_bytes"] >= FLOOD
    assert output["stdout_bytes"] <= SIZE
    assert b"\0" * 1000 in daemon.output(flood)
    assert daemon.output(flood) == bytes(output["stdout_bytes"])
    assert leaves() == set()

    # Room again: it is as before.
    daemon.api.call("DELETE", f"/jobs/{flood}")
    again = daemon.shell("echo again")
    assert daemon.api.wait(again)["state"] == "completed"
    assert daemon.output(again) == b"again\n"


def test_what_was_full_is_right_after_a_restart(cramped: Served, small: Path) -> None:
    daemon = cramped
    flood = daemon.shell(f"head -c {FLOOD} /dev/zero; exit 7")
    ended = daemon.api.wait(flood)
    assert ended["verdict"]["exit_code"] == 7

    daemon.kill()
    daemon.start()
    assert daemon.api.wait(flood)["verdict"] == ended["verdict"]
    done = subprocess.run(
        [*JOBSUP, "rm", flood], env=daemon.environment, capture_output=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert daemon.api.all() == []
    assert daemon.api.wait(daemon.shell("exit 3"))["verdict"]["exit_code"] == 3


def test_a_job_that_ends_on_a_full_disk_is_ended_for_the_next_daemon(
    cramped: Served, small: Path
) -> None:
    daemon = cramped
    job = daemon.shell("read line; sleep 3; exit 9")
    waits = daemon.shell("sleep 1000")
    with (small / "filler").open("wb", 0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass
    ended = daemon.api.wait(job)
    print(f"\nended on a full disk: {ended['state']}, {ended['verdict']}")
    assert ended["verdict"]["exit_code"] == 9
    daemon.kill()
    (small / "filler").unlink()
    daemon.start()
    assert daemon.api.wait(job)["verdict"]["exit_code"] == 9
    assert daemon.api.status(waits)["state"] == "running"
