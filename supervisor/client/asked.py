"""What a caller asks of a daemon, as the daemon wants it; and its verdicts, as a caller has them.

Apart from the rest, since it needs specs and verdicts, and listing jobs does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..protocol import JobStatus, Started
from ..verdict import Verdict
from . import calls
from .flow import Call

if TYPE_CHECKING:
    from ..library import Duration, Options

    class StartOptions(Options, total=False):
        """What `start` takes: a run's options, and when and how often it is run."""

        merge: bool | None
        stdin: calls.Stdin | None
        after: Duration | None
        at: str | None
        every: str | None
        restart: str | None


def submission(argv: Sequence[Any], options: Mapping[str, Any]) -> Call[Started]:
    """The call that starts this job of the caller's, with the caller's own directory and
    environment where the job is to have them.

    Raises:
        BadValue: an option that cannot be.
    """
    from ..request import Request  # who only reads verdicts needs none

    asked = dict(options)
    stdin = asked.pop("stdin", None)
    request = Request.of_caller(argv, os.environb, **asked)
    return calls.start(request.to_plain(), stdin)


def has_passed(at: str) -> bool:
    """Whether `at` was before now, so that a job of that time starts at once.

    Raises:
        BadValue: it is no time.
    """
    from ..times import parse_at

    return parse_at("at", at) < time.time_ns()


def verdict_of(status: JobStatus) -> Verdict | None:
    """Why the last attempt that has ended did so."""
    return None if status.verdict is None else Verdict.from_dict(status.verdict)


def verdict_at_end(status: JobStatus) -> Verdict:
    """The verdict of a job that has ended."""
    assert status.verdict is not None, "a daemon judges a job before it calls it ended"
    return Verdict.from_dict(status.verdict)
