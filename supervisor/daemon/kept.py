"""How much output is kept of each owner's ended jobs: asked at each submission, so always at hand,
and without an entry for each job, since there may be any number of them.

The store's thread changes the sums with each transaction; the loop only reads them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

from .state import ENDED, State

_ENDED = ", ".join(f"'{state.value}'" for state in State if state in ENDED)


class Kept:
    """`totals`: bytes, by owner."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.totals: Counter[int] = Counter()
        self._changes: list[tuple[int, int]] = []  # of the transaction under way: owner, bytes
        sums = f"SELECT uid, sum(output_bytes) FROM jobs WHERE state IN ({_ENDED}) GROUP BY uid"  # noqa: S608
        self.totals.update(dict(connection.execute(sums)))

    def begin(self) -> None:
        """A transaction begins; one before it may have been undone."""
        self._changes.clear()

    def change(
        self, connection: sqlite3.Connection, job: str, owner: int = 0, size: int = 0
    ) -> None:
        """From what is kept of a job to `size`; before its row changes."""
        query = f"SELECT uid, output_bytes FROM jobs WHERE id = ? AND state IN ({_ENDED})"  # noqa: S608
        for uid, before in connection.execute(query, (job,)):
            self._changes.append((uid, -before))
        self._changes.append((owner, size))

    def apply(self) -> None:
        """The transaction is durable."""
        for owner, change in self._changes:
            self.totals[owner] += change
