"""What `jobsup serve` is given: places and ceilings, refused by name where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobsup.supervisor.daemon.settings import Settings
from jobsup.supervisor.errors import BadValue


def test_without_a_word_it_is_the_hosts_own_daemon() -> None:
    settings = Settings.make()
    assert settings == Settings()
    assert (settings.lib, settings.run) == (Path("/var/lib/jobsup"), Path("/run/jobsup"))
    assert settings.socket == Path("/run/jobsup/jobsup.sock")
    assert settings.keep_usec == 7 * 86_400 * 10**6
    nothing = dict.fromkeys(["max_running", "memory", "cpus", "keep", "owner_jobs"])
    assert Settings.make(**nothing) == settings


def test_a_state_directory_holds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.make(state="here")
    assert (settings.lib, settings.run) == (tmp_path / "here/lib", tmp_path / "here/run")
    assert settings.socket == tmp_path / "here/run/jobsup.sock"
    assert Settings.make(state="here", socket="s").socket == tmp_path / "s"


def test_ceilings_are_typed_as_a_jobs_limits_are() -> None:
    settings = Settings.make(
        max_running="8", memory="4G", cpus="1.5", keep="1d", owner_jobs=0, owner_bytes="1G",
        owner_followers="2", connections=10, stdin_max="1M",
    )  # fmt: skip
    assert (settings.max_running, settings.memory, settings.cpus) == (8, 4 << 30, 1.5)
    assert (settings.keep_usec, settings.owner_jobs) == (86_400 * 10**6, 0)
    assert (settings.owner_bytes, settings.owner_followers) == (1 << 30, 2)
    assert (settings.connections, settings.stdin_max) == (10, 1 << 20)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_running", 0), ("max_running", True), ("memory", "some"), ("memory", 1), ("cpus", 0),
     ("cpus", float("nan")), ("keep", -1), ("keep", "week"), ("owner_jobs", -1),
     ("owner_bytes", 2**64), ("connections", "0"), ("body_max", 5), ("nonsense", 1)],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(field: str, value: Any) -> None:  # noqa: ANN401
    with pytest.raises(BadValue) as caught:
        Settings.make(**{field: value})
    assert caught.value.field == field
