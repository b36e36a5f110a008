"""Output outlives the daemons that serve it. `./run torture` does the same with a GiB."""

from __future__ import annotations

from tests.crash.readers import Readers
from tests.crash.station import Station

SIZE = 32 << 20
KILLS = 20


def test_ten_followers_get_every_byte_from_twenty_one_daemons(station: Station) -> None:
    readers = Readers(station, SIZE, kills=KILLS)
    account = readers.run()
    print(f"{station.deaths} kills, {readers.returns} times a follower came back: {account}")
    assert not account.complaints, "\n".join([str(account), *account.complaints])
    assert station.deaths == KILLS
    assert readers.returns >= KILLS  # at least those of whom one was reading
