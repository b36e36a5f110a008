"""The daemon: many jobs over time. Knows jobs and asyncio, and Linux by isolation's door only.

serve                  the process: how it begins, and how it ends
api/                   how clients reach it: HTTP on a Unix socket
engine                 what the API asks for, whatever it is
  intake, changes      a new job, from a request to its row; other limits for a running one
  finding, views       which job is meant, among those that somebody may see; what is told of it
  dispatch             the jobs on their way: launched in order, at their time, and once more
    admission, schedule, timers    who may start now; when others are due
    launcher           what blocks: launches, adoptions, conclusions, in threads
    job                one unfinished job and its init
  recovery, retention  jobs of the daemon before; those that ended long ago
  events               what happens, to those who want to know
records, state                     what is known of a job, and what may follow what
store, rows, schema                where that is kept (SQLite)
settings, paths, lock, peer        what it was told; where its files are; who has them; who asks
log, notify, light                 its lines, the service manager, its memory

The engine knows nothing of the API; the API knows it as api/seam.py has it.
"""
