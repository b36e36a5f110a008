"""What `--json` prints: the messages of the API, a line each, and the verdict of a job."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from jobsup.supervisor.protocol import ENDED, JobStatus

# Of a verdict, and of no status; null while a job has not ended.
_OF_THE_END = ("cause", "exit_code", "signal", "status", "message", "hint", "wall_seconds", "usage",
               "events", "setup_failure")  # fmt: skip


def line(message: object) -> str:
    """As one line of ASCII: no text of somebody's can move a terminal's cursor."""
    return json.dumps(msgspec.to_builtins(message))


def of_job(status: JobStatus) -> dict[str, Any]:
    """The verdict's object, with what else is known of the job beside it. Until the job has ended
    what only its end can tell is null: an earlier attempt's verdict is among the attempts."""
    told: dict[str, Any] = msgspec.to_builtins(status)
    verdict = told.pop("verdict")
    if status.state not in ENDED or verdict is None:
        return {**told, **dict.fromkeys(_OF_THE_END)}
    return {**told, **verdict}
