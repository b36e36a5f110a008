"""What `jobsup.run` tells who is not root."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobsup
from tests.fake_daemon import FakeDaemon


@pytest.mark.parametrize("there", [False, True])
def test_who_is_not_root_is_told_of_a_daemon_where_there_is_one(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("JOBSUP_SOCKET", str(tmp_path / ("socket" if there else "none")))
    with FakeDaemon(tmp_path / "socket"), pytest.raises(jobsup.HostNotSupported) as refused:
        jobsup.run(["true"])
    assert refused.value.message == "only root can build a job's walls"
    hint = "run it with sudo, or as root"
    assert refused.value.hint == hint + (", or jobsup.connect().start(…)" if there else "")
