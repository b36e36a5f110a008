"""A record as a row of its table, and back; see schema for the tables."""

from __future__ import annotations

import json
import time
from typing import Any

from .records import Record
from .state import ENDED, State

# The columns that are fields of a record as they are, and those that are JSON of one.
_PLAIN = (
    "seq id uid gid user name attempt queued_ns started_ns ended_ns due_ns reason boot_id attached "
    "output_bytes"
).split()
_AS_JSON = "groups request argv limits verdict".split()
_COLUMNS = [*_PLAIN, *_AS_JSON, "state", "stop_signal", "stop_grace_ms"]
SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"  # noqa: S608 - our own names
UPSERT = (
    f"INSERT INTO jobs ({', '.join(_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name}=excluded.{name}" for name in _COLUMNS if name not in ("seq", "id"))
)
TRANSITION = "INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?)"


def row_of(record: Record) -> dict[str, Any]:
    """For UPSERT."""
    row: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    row |= {name: as_json(getattr(record, name)) for name in _AS_JSON}
    row["state"] = record.state.value
    row["stop_signal"], row["stop_grace_ms"] = record.stop or (None, None)
    return row


def record_of(row: tuple[Any, ...]) -> Record:
    """What SELECT found."""
    kept = dict(zip(_COLUMNS, row, strict=True))
    fields = {name: kept[name] for name in _PLAIN}
    fields |= {name: from_json(kept[name]) for name in _AS_JSON}
    fields["groups"] = tuple(fields["groups"])
    fields["attached"] = bool(fields["attached"])
    asked = kept["stop_signal"] is not None
    stop = (kept["stop_signal"], kept["stop_grace_ms"]) if asked else None
    return Record(**fields, state=State(kept["state"]), stop=stop)


def transition_of(record: Record) -> tuple[object, ...]:
    """For TRANSITION: that it came to be so just now."""
    verdict = record.verdict if record.state in ENDED else None
    cause, status = (verdict.get("cause"), verdict.get("status")) if verdict else (None, None)
    state, reason = record.state.value, record.reason
    return (record.id, record.attempt, state, time.time_ns(), reason, cause, status)


def as_json(value: object) -> str | None:
    """NULL for None."""
    # ASCII: a lone surrogate, which a name of bytes becomes in Python, survives as an escape.
    return None if value is None else json.dumps(value, separators=(",", ":"))


def from_json(text: str | None) -> Any:  # noqa: ANN401 - as it was
    return None if text is None else json.loads(text)
