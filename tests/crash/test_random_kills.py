"""Some tens of daemons killed at random under load; `./run torture` kills a thousand."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.crash.station import Station
from tests.crash.storm import MAX_RUNNING, Storm

SEED = int(os.environ.get("JOBSUP_STORM_SEED", "20261"))
KILLS = 40


def test_nothing_is_lost_in_a_storm(open_station: Callable[..., Station]) -> None:
    storm = Storm(open_station(max_running=MAX_RUNNING), SEED)
    account = storm.run(KILLS, seconds=60)
    print(f"seed {SEED}, {storm.kills} kills: {account}")
    assert not account.complaints, "\n".join([str(account), *account.complaints])
