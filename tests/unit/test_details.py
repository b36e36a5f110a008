"""What `jobsup status` shows to people."""

from __future__ import annotations

import pytest

from jobsup.cli import details
from jobsup.supervisor.protocol import JobStatus
from jobsup.supervisor.request import Request


def shown(output_max: int | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    request = Request.make(["true"], cwd="/", output_max=output_max).to_plain()
    status = JobStatus(
        id="j",
        name=None,
        state="running",
        user="anna",
        argv=["true"],
        attempt=1,
        queued_at="2026-01-01T00:00:00Z",
        started_at=None,
        ended_at=None,
        due_at=None,
        reason=None,
        request=request,
        limits={},
        current=None,
        output={},
        attempts=[],
        verdict=None,
    )
    details.show(status)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_the_output_limit_in_force_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "output-max 40K" in shown(40 << 10, capsys)
    assert not [line for line in shown(None, capsys) if line.startswith("output-max")]
