"""How much of the disk each owner but root may fill, and with what.

    owner_bytes  >=  output of ended jobs + uploads on their way + shares of unfinished jobs

A job writes without asking anybody, also while no daemon is there; so its share is set aside when
it is taken on, and its init holds it to that: output-max, as many times as runs of the job are
kept. One that was asked for is set aside as it is, or the job is refused. A job that asked for none
gets an eighth of what is free, at most OUTPUT_MAX, for all its runs, and so the first ones leave
something to the next; its request has the value from then on, and so its status shows it. When
nothing is free a job still gets its crumb, so that somebody with a thousand quiet jobs is not told
that they are too loud. What may come on top is therefore a tenth of owner_bytes, for the crumbs of
as many jobs as an owner may have; and the index of each output, which grows by its 24 bytes at most
once a millisecond and stream.

Nothing new is taken from whoever has used up all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..errors import QuotaExceeded
from ..request import Request
from ..units import format_size
from .dispatch import KEPT_ATTEMPTS, Dispatcher
from .paths import Paths
from .settings import Settings

if TYPE_CHECKING:
    from .job import LiveJob
    from .peer import Peer

OUTPUT_MAX = 1 << 30  # bytes of a kept job that says nothing else
_UPLOADS_MAX = 16  # of an owner at once
_PART = 8
_CRUMBS = 10


class Upload:
    """The input of a job, on its way. Made by Quota."""

    def __init__(self, quota: Quota, uid: int) -> None:
        self.size = 0
        self._quota = quota
        self._uid = uid

    def grow(self, count: int) -> None:
        """So many bytes more are to be written.

        Raises:
            QuotaExceeded: they are too many.
        """
        self._quota.take(self._uid, count)
        self.size += count


class Quota:
    """Of all owners of one daemon."""

    def __init__(self, settings: Settings, dispatch: Dispatcher) -> None:
        self._most = settings.owner_bytes
        self._crumb = self._most // (_CRUMBS * max(1, settings.owner_jobs))
        self._dispatch = dispatch
        self._uploads: Counter[int] = Counter()  # how many
        self._uploaded: Counter[int] = Counter()  # bytes
        self._paths = Paths(settings.lib, settings.run)
        self._inputs: WeakKeyDictionary[LiveJob, int] = WeakKeyDictionary()  # bytes

    @contextmanager
    def uploading(self, peer: Peer) -> Iterator[Upload]:
        """While a job's input is received and until the job has it.

        Raises:
            QuotaExceeded: this owner has too many.
        """
        uid = peer.uid
        if not peer.is_root and self._uploads[uid] >= _UPLOADS_MAX:
            raise QuotaExceeded(
                f"you send the input of {_UPLOADS_MAX} jobs at once, which is the most",
                hint="wait for one to be taken",
            )
        upload = Upload(self, uid)
        self._uploads[uid] += 1
        try:
            yield upload
        finally:
            self._give_back(self._uploads, uid, 1)
            self._give_back(self._uploaded, uid, upload.size)

    @staticmethod
    def _give_back(counts: Counter[int], uid: int, count: int) -> None:
        counts[uid] -= count
        if not counts[uid]:
            del counts[uid]

    def take(self, uid: int, count: int) -> None:
        """Of an upload.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        if uid != 0 and count > self._free(uid):
            raise self._exceeded(
                f"the output and input of your jobs may take {self._most} bytes, "
                "and there is no room for this input"
            )
        self._uploaded[uid] += count

    def _exceeded(self, what: str) -> QuotaExceeded:
        return QuotaExceeded(what, hint="jobsup prune removes ended jobs")

    def _free(self, uid: int) -> int:
        """What nothing is set aside for; below zero when the crumbs came on top."""
        shares = sum(map(self._share, self._own(uid)))
        kept = self._dispatch.store.kept_bytes(uid)
        return self._most - kept - self._uploaded[uid] - shares

    def _own(self, uid: int) -> list[LiveJob]:
        return [job for job in self._dispatch.jobs.values() if job.record.uid == uid]

    async def require_room(self, uid: int) -> None:
        """Whether there is any, as it is now.

        Raises:
            QuotaExceeded: all is used up.
        """
        if uid == 0:
            return
        size, ids = self._dispatch.launcher.spool_bytes, [job.record.id for job in self._own(uid)]
        live = await self._dispatch.in_thread(lambda: sum(map(size, ids)))
        used = self._dispatch.store.kept_bytes(uid) + self._uploaded[uid] + live
        if used >= self._most:
            raise self._exceeded(
                f"the output of your jobs takes {used} bytes, and {self._most} is the most"
            )

    def limited(self, request: Request, uid: int) -> Request:
        """The request with the output-max that its kept job is to have.

        Raises:
            QuotaExceeded: it asks for one that there is no room for.
        """
        limit = request.spec.output_max
        if uid == 0:
            limit = OUTPUT_MAX if limit is None else limit
        elif limit is None:
            most = max(self._free(uid) // _PART, self._crumb)
            limit = min(OUTPUT_MAX, most // _runs(request))
        else:
            self._require_fits(limit, _runs(request), uid)
        return replace(request, spec=replace(request.spec, output_max=limit))

    def _require_fits(self, limit: int, runs: int, uid: int) -> None:
        free = max(self._free(uid), self._crumb)
        if limit * runs <= free:
            return
        times = f", times the {runs} runs whose output is kept," if runs > 1 else ""
        raise QuotaExceeded(
            f"output_max: {format_size(limit)}{times} is more than the {format_size(free)} that "
            f"are free of the {format_size(self._most)} for the output and input of your jobs",
            hint=f"a smaller output limit: --output-max {format_size(free // runs)} is the most "
            "now; jobsup prune removes ended jobs",
        )

    def note_input(self, job: LiveJob, size: int) -> None:
        """What an upload brought is this job's."""
        self._inputs[job] = size

    def _share(self, job: LiveJob) -> int:
        if job.record.attached:
            return 0
        limit = job.request.spec.output_max
        outputs = (OUTPUT_MAX if limit is None else limit) * _runs(job.request)
        return outputs + self._input(job)

    def _input(self, job: LiveJob) -> int:
        if job not in self._inputs:  # it is an earlier daemon's
            path = self._paths.job(job.record.id) / "stdin"
            self._inputs[job] = path.stat().st_size if path.exists() else 0
        return self._inputs[job]


def _runs(request: Request) -> int:
    """Of how many runs of a job the output is kept at once."""
    if request.every is not None:
        return KEPT_ATTEMPTS + 1
    if request.restart.kind == "no":
        return 1
    limit = request.restart.limit
    return KEPT_ATTEMPTS + 1 if limit is None else min(limit, KEPT_ATTEMPTS) + 1
