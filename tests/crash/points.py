"""Every point at which a test may have a daemon kill itself (isolation/killpoints.py), by name.

A point says what is done: `reached("row-durable")` comes right after the row became durable and
before anything that follows from it. tests/crash/test_kill_points.py fails when the sources have a
point that is not here, and kills a daemon at each one that is.
"""

from __future__ import annotations

LAUNCH = {
    "id-made": "a submission is understood and has its id; nothing is kept of it",
    "upload-begun": "a file has the beginning of what a job is to read",
    "stdin-kept": "what the job is to read lies in its directory; no row speaks of it",
    "queued-kept": "the record of a job that is to wait lies in its directory; no row speaks of it",
    "uncommitted": "rows are written, and their transaction is not committed",
    "committed": "a transaction is durable, and who waits for it was not told",
    "row-durable": "a new job's row is durable; nothing was launched, nobody was told",
    "starting-durable": "a queued job is marked as being launched; it is not",
    "spool-made": "the directory of its output is there",
    "listening": "its control socket is bound, by the daemon that is about to die",
    "leaf-made": "the leaf is there and locked, without limits",
    "leaf-limited": "all limits are written and read back",
    "cloned": "the init runs, in the thread that launched it",
    "launched": "the event loop knows that the init runs",
    "acknowledged": "all is done but the answer to the client",
    "executed": "the init said that the command is executed; no row says so",
}

REQUESTS = {
    "limits-changed": "the leaf has other limits; the row has the old ones",
    "stop-durable": "a stop is durable; the init was not asked",
    "stop-sent": "the init was asked to end the job; nobody was told",
    "row-deleted": "an ended job's row is deleted; its files are there",
}

END = {
    "end-seen": "the init's socket is at its end; the job is not looked at",
    "leaf-cleared": "a job that left no record has no process and no leaf any more",
    "init-reaped": "nothing but the record is left",
    "record-read": "how it ended is known; nobody was told",
    "verdict-durable": "how it ended is durable; its control socket is there",
    "control-removed": "its control socket is not",
    "again-durable": "a run's end and that there will be another are durable; no timer runs",
}

RECOVERY = {
    "records-read": "a new daemon has read the unfinished jobs",
    "record-restored": "a job of which only its init knew has a row again",
    "inits-reached": "every init that answers has its new peer, and nothing was done about any",
    "leaves-swept": "leaves that nobody holds are gone",
    "adopted": "the jobs that run are followed; the queue is not",
    "relaunch": "what was left of a launch that was cut short is gone; it was not repeated",
    "recovered": "all is as it was; no request is taken yet",
}

POINTS = LAUNCH | REQUESTS | END | RECOVERY
