"""What one question to this host gave, and the words that findings share."""

from __future__ import annotations

import os
from dataclasses import dataclass

# What may forbid a call to root: a container's seccomp filter, a missing capability, a security
# module. From inside they look alike.
FORBIDDEN = (
    "something forbids it to root: run on the host itself, or in a container that may "
    "(docker run --privileged --cgroupns=private, podman run --privileged)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `ok` is False for what every job needs and this host lacks, None for what only
    some options need; `remedy` says what to do about it, and is None when there is nothing to do.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None


def needed(every_job: bool) -> bool | None:
    """The `ok` of something that is missing."""
    return False if every_job else None


def failed(call: str, number: int) -> str:
    """A failed call in words, as in "unshare: No space left on device"."""
    return f"{call}: {os.strerror(number)}" if number else call
