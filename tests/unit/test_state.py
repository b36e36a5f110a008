"""The life of a job: the whole table is walked, the legal moves and the illegal ones."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from jobsup.supervisor.daemon.state import ENDED, IllegalMove, State, move
from jobsup.supervisor.protocol import ENDED as API_ENDED
from jobsup.supervisor.protocol import UNFINISHED, StateName
from jobsup.supervisor.verdict import EndState

# The table a second time, in another form: a row for each state, a column for what follows.
COLUMNS = "queued starting running paused stopping completed failed stopped lost".split()
TABLE = """
queued     .  x  .  .  .  .  x  x  x
starting   x  .  x  .  x  x  x  x  x
running    x  .  .  x  x  x  x  x  x
paused     x  .  x  .  x  x  x  x  x
stopping   .  .  .  .  .  x  x  x  x
completed  .  .  .  .  .  .  .  .  .
failed     .  .  .  .  .  .  .  .  .
stopped    .  .  .  .  .  .  .  .  .
lost       .  .  .  .  .  .  .  .  .
"""
LEGAL = {
    (State(row.split()[0]), State(column))
    for row in TABLE.strip().splitlines()
    for column, mark in zip(COLUMNS, row.split()[1:], strict=True)
    if mark == "x"
}


@pytest.mark.parametrize(("present", "following"), [*itertools.product(State, State)])
def test_every_move_is_legal_or_raises(present: State, following: State) -> None:
    if (present, following) in LEGAL:
        assert move(present, following) is following
        return
    with pytest.raises(IllegalMove, match=f"from {present.value} to {following.value}"):
        move(present, following)


def test_every_state_but_the_first_can_be_reached_and_every_job_can_end() -> None:
    reached, edge = {State.QUEUED}, {State.QUEUED}
    while edge:
        edge = {after for before, after in LEGAL if before in edge} - reached
        reached |= edge
    assert reached == set(State)
    assert {before for before, after in LEGAL if after in ENDED} == set(State) - ENDED


def test_an_end_is_final() -> None:
    assert not {before for before, _ in LEGAL} & ENDED


def test_the_names_are_those_of_the_api_and_of_verdicts() -> None:
    assert {state.value for state in State} == set(get_args(StateName)) == {*UNFINISHED, *API_ENDED}
    assert {state.value for state in ENDED} == set(API_ENDED) == set(get_args(EndState))
