"""Run any Linux program as a job: isolated, limited, observed, and never lost track of.

    import jobsup

    done = jobsup.run(["make", "-j4"], mem="1G", cpus=2, rw=".", check=True)
    print(done.verdict.usage.memory_peak)

    with jobsup.connect() as supervisor:  # a daemon's jobs; jobsup.aio.connect() with asyncio
        job = supervisor.start(["make", "-j4"], mem="1G", rw="/srv/build")
        for chunk in job.output():
            ...

`run` is shaped like subprocess.run; its keywords are the flags of `jobsup run`. Errors are one
family under JobsupError. Names are loaded when they are first used, so that `import jobsup` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsup.isolation import (
        HostNotSupported,
        JobsupError,
        LaunchFailed,
        LimitNotEnforceable,
        PathRefused,
    )
    from jobsup.supervisor.client import aio
    from jobsup.supervisor.client.blocking import Job, Supervisor, connect
    from jobsup.supervisor.client.errors import ApiError, Disconnected, NoDaemon, StillRunning
    from jobsup.supervisor.errors import (
        Ambiguous,
        BadValue,
        Forbidden,
        NoSuchJob,
        NotReady,
        QuotaExceeded,
        StorageFull,
        WrongState,
    )
    from jobsup.supervisor.failures import (
        CpuTimeSpent,
        ExecFailed,
        JobFailed,
        Killed,
        Lost,
        OutOfMemory,
        OutputLimitReached,
        SetupFailed,
        Signaled,
        Stopped,
        TimedOut,
    )
    from jobsup.supervisor.library import DEVNULL, PIPE, STDOUT, Completed, Options, run
    from jobsup.supervisor.verdict import Verdict

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Ambiguous",
    "ApiError",
    "BadValue",
    "Completed",
    "CpuTimeSpent",
    "Disconnected",
    "ExecFailed",
    "Forbidden",
    "HostNotSupported",
    "Job",
    "JobFailed",
    "JobsupError",
    "Killed",
    "LaunchFailed",
    "LimitNotEnforceable",
    "Lost",
    "NoDaemon",
    "NoSuchJob",
    "NotReady",
    "Options",
    "OutOfMemory",
    "OutputLimitReached",
    "PathRefused",
    "QuotaExceeded",
    "SetupFailed",
    "Signaled",
    "StillRunning",
    "Stopped",
    "StorageFull",
    "Supervisor",
    "TimedOut",
    "Verdict",
    "WrongState",
    "aio",
    "connect",
    "run",
]

_HOMES = (
    "isolation",
    "supervisor.errors",
    "supervisor.failures",
    "supervisor.library",
    "supervisor.verdict",
    "supervisor.client.errors",
)
# What is looked for there and nowhere else: isolation has a Job of its own.
_CLIENT = dict.fromkeys(("Job", "Supervisor", "connect"), "supervisor.client.blocking")


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        if name == "aio":
            return import_module("jobsup.supervisor.client.aio")
        for home in (_CLIENT[name],) if name in _CLIENT else _HOMES:
            module = import_module(f"jobsup.{home}")
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
