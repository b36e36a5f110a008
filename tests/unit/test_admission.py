"""Places and the queue for them: who starts when, and what can never start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.supervisor.daemon.admission import Admission, Demand, demand_of
from jobsup.supervisor.errors import BadValue
from jobsup.supervisor.spec import Spec

ANY = Demand()


def spec(**options: Any) -> Spec:  # noqa: ANN401 - those of Spec
    return Spec.make(["true"], **options)


def admitted(admission: Admission) -> list[str]:
    """All that may start now, in the order in which they do."""
    found = []
    while (job := admission.next_admitted()) is not None:
        found.append(job)
    return found


def test_without_limits_everybody_starts_at_once() -> None:
    admission = Admission(None, None, None)
    assert all(admission.enter(str(number), ANY) for number in range(1000))
    assert (admission.running, admission.waiting) == (1000, 0)


def test_places_go_to_who_waited_longest() -> None:
    admission = Admission(1, None, None)
    assert [admission.enter(job, ANY) for job in "abcd"] == [True, False, False, False]
    assert admitted(admission) == []
    admission.leave("c")  # from the middle of the queue
    admission.leave("a")
    assert admitted(admission) == ["b"]
    admission.leave("b")
    assert admitted(admission) == ["d"]
    admission.leave("d")
    assert (admission.running, admission.waiting) == (0, 0)


def test_nobody_overtakes_one_that_does_not_fit() -> None:
    admission = Admission(None, 100, None)
    assert admission.enter("small", Demand(60))
    assert not admission.enter("large", Demand(100))
    assert not admission.enter("tiny", Demand(1))
    assert not admission.take("another", Demand(1))
    assert admission.waiting == 2  # who only tried does not stand in the queue
    assert admitted(admission) == []
    admission.leave("small")
    assert admitted(admission) == ["large"]
    admission.leave("large")
    assert admitted(admission) == ["tiny"]


def test_processors_are_added_up_in_fractions() -> None:
    admission = Admission(None, None, 0.6)
    demands = [demand_of(spec(cpus=cpus)) for cpus in (0.1, 0.2, 0.3, 0.001)]
    assert sum(demand.cpus for demand in demands[:3]) > 0.6  # as floats have it
    taken = [admission.enter(str(number), demand) for number, demand in enumerate(demands)]
    assert taken == [True, True, True, False]


def test_what_runs_already_counts_also_when_it_is_too_much() -> None:
    admission = Admission(1, 10, None)
    admission.force("a", Demand(8))
    admission.force("b", Demand(8))
    assert not admission.enter("c", Demand(1))
    admission.leave("a")
    assert admitted(admission) == []
    admission.leave("b")
    assert admitted(admission) == ["c"]


def test_changed_limits_change_what_is_left() -> None:
    admission = Admission(None, 100, None)
    admission.enter("running", Demand(80))
    admission.enter("waiting", Demand(50))
    admission.change("running", Demand(60))
    assert admitted(admission) == []
    admission.change("waiting", Demand(40))
    assert admitted(admission) == ["waiting"]
    admission.change("running", Demand(200))  # it was granted
    admission.change("nobody", Demand(1))
    assert not admission.take("next", ANY)
    assert (admission.running, admission.waiting) == (2, 0)


@pytest.mark.parametrize(
    ("options", "field", "sentence"),
    [
        ({"cpus": 1}, "mem", "must be given: this supervisor has a memory budget"),
        ({"mem": "2G", "cpus": 1}, "mem", "is more than this supervisor's memory budget, 1G"),
        ({"mem": "1G"}, "cpus", "must be given: this supervisor has a CPU budget"),
        ({"mem": "1G", "cpus": 2.5}, "cpus", "is more than this supervisor's CPU budget, 2"),
    ],
)
def test_what_could_never_start_is_named(
    options: dict[str, object], field: str, sentence: str
) -> None:
    admission = Admission(None, 1 << 30, 2.0)
    with pytest.raises(BadValue) as refused:
        admission.require_possible(spec(**options))
    assert (refused.value.field, refused.value.why) == (field, sentence)


def test_what_just_fits_can_start() -> None:
    admission = Admission(1, 1 << 30, 2.0)
    largest = spec(mem="1G", cpus=2)
    admission.require_possible(largest)
    assert admission.enter("largest", demand_of(largest))
    Admission(None, None, None).require_possible(spec())


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=30),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_whoever_leaves_and_when_the_order_is_kept_and_nothing_is_overcommitted(
    demands: list[int],
    places: int,
    random: Any,  # noqa: ANN401 - hypothesis' own Random
) -> None:
    admission = Admission(places, 100, None)
    running: list[str] = []
    started: list[int] = []
    for number, demand in enumerate(demands):
        if admission.enter(str(number), Demand(demand)):
            running.append(str(number))
            started.append(number)
    while running:
        assert len(running) <= places
        assert sum(demands[int(job)] for job in running) <= 100
        admission.leave(running.pop(random.randrange(len(running))))
        running += (new := admitted(admission))
        started += map(int, new)
    assert started == list(range(len(demands)))
