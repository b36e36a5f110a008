"""The walls of one job. This is the door: what is exported here is all that others may use.

Isolation knows Linux; it knows no jobs over time, users' wishes, JSON or logging. `launch` turns
Walls and Limits into a running init and one handle; the handle ends in an ExitRecord of facts.
"""

from .controllers import find_mount
from .errors import (
    HostNotSupported,
    JobsupError,
    LaunchFailed,
    LimitNotEnforceable,
    PathRefused,
    errno_name,
    show,
)
from .hierarchy import locate, open_hierarchy, sweep
from .identity import CAPABILITIES, DEFAULT_ROOT_CAPABILITIES, RLIMITS, all_rlimits
from .job import Job, Status, adopt
from .killpoints import reached
from .plan import compile_plan
from .probe import Finding, examine
from .protection import settle
from .record import EndedBy, ExitRecord, StepFailure
from .spawn import Streams, launch
from .walls import (
    Bind,
    Files,
    Identity,
    IoLimit,
    Knob,
    Limits,
    Program,
    Rlimit,
    Scratch,
    Walls,
    Watch,
    WhenFull,
)

__all__ = [
    "CAPABILITIES",
    "DEFAULT_ROOT_CAPABILITIES",
    "RLIMITS",
    "Bind",
    "EndedBy",
    "ExitRecord",
    "Files",
    "Finding",
    "HostNotSupported",
    "Identity",
    "IoLimit",
    "Job",
    "JobsupError",
    "Knob",
    "LaunchFailed",
    "LimitNotEnforceable",
    "Limits",
    "PathRefused",
    "Program",
    "Rlimit",
    "Scratch",
    "Status",
    "StepFailure",
    "Streams",
    "Walls",
    "Watch",
    "WhenFull",
    "adopt",
    "all_rlimits",
    "compile_plan",
    "errno_name",
    "examine",
    "find_mount",
    "launch",
    "locate",
    "open_hierarchy",
    "reached",
    "settle",
    "show",
    "sweep",
]
