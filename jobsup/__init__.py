"""Run any Linux program as a job: isolated, limited, observed, and never lost track of.

    import jobsup

    done = jobsup.run(["make", "-j4"], mem="1G", cpus=2, rw=".", check=True)
    print(done.verdict.usage.memory_peak)

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
    from jobsup.supervisor.errors import BadValue
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
    "BadValue",
    "Completed",
    "CpuTimeSpent",
    "ExecFailed",
    "HostNotSupported",
    "JobFailed",
    "JobsupError",
    "Killed",
    "LaunchFailed",
    "LimitNotEnforceable",
    "Lost",
    "Options",
    "OutOfMemory",
    "OutputLimitReached",
    "PathRefused",
    "SetupFailed",
    "Signaled",
    "Stopped",
    "TimedOut",
    "Verdict",
    "run",
]

_HOMES = (
    "isolation",
    "supervisor.errors",
    "supervisor.failures",
    "supervisor.library",
    "supervisor.verdict",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"jobsup.{home}")
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
