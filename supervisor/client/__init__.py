"""The other end of the daemon's API: one set of messages, a blocking and an asyncio client.

errors          what a daemon's answer, or its absence, raises
flow, chunks    HTTP as generators that do no I/O
calls           the table of calls: what is asked, and what comes back
asked           what a caller asks for, as the daemon wants it
follow          what lasts: a wait, a job's output, events; through a daemon's restart
blocking, aio   the two faces, each with a few lines of I/O
attached        `jobsup run` through the daemon, on the caller's own streams
"""
