"""The host goes down while jobs run, without a word to anybody, and comes up again.

Two guests, one after the other, over one disk; the first one is killed. What the jobs of the first
boot did is known where it was written down, and lost where it was not; nothing is invented.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.books import blocks

REPO = Path(__file__).parents[2]
GUEST = [str(REPO / "vagrant" / "guest"), "--timeout", "200", "--cwd", str(REPO)]
MOUNTED = "mkdir /tmp/disk && mount -t ext4 /dev/ubdb /tmp/disk && exec "

pytestmark = pytest.mark.requires("root")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with an empty ext4 on it."""
    path = tmp_path_factory.mktemp("power") / "image"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    return path


def boot(image: Path, half: str) -> subprocess.Popen[bytes]:
    command = f"{MOUNTED} {sys.executable} -B -m tests.crash.reboot {half} /tmp/disk"
    return subprocess.Popen(
        [*GUEST, "--disk", str(image), "--", "sh", "-c", command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(image: Path) -> Any:  # noqa: ANN401 - JSON
    """What the second boot says of the first one's jobs."""
    first = boot(image, "before")
    assert first.stdout
    assert select.select([first.stdout], [], [], 200)[0]
    ids = first.stdout.readline()
    first.kill()  # the guest's kernel goes with it, and so what it had not written to the disk
    first.communicate()
    second = boot(image, "after")
    out, _ = second.communicate(ids, timeout=200)
    assert second.returncode == 0
    return json.loads(out) | {"ids": json.loads(ids)}


def test_the_host_was_really_cut_off(told: Any) -> None:  # noqa: ANN401
    assert told["leaves"] == []
    assert sorted(told["journal"]) == sorted(
        ["past start", "past end", "lost start", "told start", "told end"]
        + ["again start", "again start", "again term"]
    )


def test_a_job_that_ran_is_lost(told: Any) -> None:  # noqa: ANN401
    verdict = told["lost"]["verdict"]
    assert (told["lost"]["state"], verdict["cause"]) == ("lost", "lost")
    assert (verdict["exit_code"], verdict["signal"]) == (None, None)


def test_a_job_that_had_ended_is_told_as_it_ended(told: Any) -> None:  # noqa: ANN401
    """No daemon had seen it: its init's record alone, and its output, were on the disk."""
    verdict = told["told"]["verdict"]
    assert (told["told"]["state"], verdict["cause"], verdict["exit_code"]) == (
        "failed",
        "exited",
        6,
    )
    assert told["output of told"].encode() == b"".join(blocks(3, 0))


def test_a_job_whose_end_was_kept_is_as_it_was(told: Any) -> None:  # noqa: ANN401
    assert (told["past"]["state"], told["past"]["verdict"]["exit_code"]) == ("failed", 4)


def test_a_job_that_is_always_run_again_runs_again(told: Any) -> None:  # noqa: ANN401
    running = told["again, running"]
    assert (running["state"], running["attempt"]) in (("running", 2), ("starting", 2))
    runs = [run["verdict"]["cause"] for run in told["again"]["attempts"]]
    assert runs == ["lost", "stopped"]


def test_a_job_that_waited_waits(told: Any) -> None:  # noqa: ANN401
    assert (told["waiting"]["state"], told["waiting"]["attempt"]) == ("queued", 1)
