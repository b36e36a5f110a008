"""What is asked of a daemon: a spec, the caller's variables, and when and how often to run it.

A *name* is a label for people: any number of jobs may bear the same one, at once too, and what
they are known by is the id that the daemon makes. A verb that is given a name means the one
unfinished job of that name, else the one that ended last.

`Request.of_caller` is for who asks: relative paths are made absolute from its directory, and the
variables that the job may take are copied from its environment. `from_plain` is for the daemon:
what comes is a stranger's, no path is taken to be relative to anything, and no file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Self

from . import times, units, wire
from .errors import BadRequest, BadValue
from .fields import from_elsewhere, nearest, parse_environment
from .spec import Spec
from .times import next_time
from .translate import is_of_the_caller

__all__ = ["Request", "Restart", "next_time"]

_RESTARTS_MAX = 1_000_000
RestartKind = Literal["no", "on-failure", "always"]
_KINDS: dict[str, RestartKind] = {"no": "no", "on-failure": "on-failure", "always": "always"}


class Restart(NamedTuple):
    """Whether a job that ended by itself is run again; `limit` is how often, None for ever."""

    kind: RestartKind = "no"
    limit: int | None = None

    def __str__(self) -> str:
        return self.kind if self.limit is None else f"{self.kind}:{self.limit}"


_NOT_AGAIN = Restart()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One submission. `environment` is what the job may take of the caller's variables."""

    spec: Spec
    environment: Mapping[bytes, bytes] = field(default_factory=dict)
    after: int | None = None  # microseconds from its acceptance
    at: int | None = None  # nanoseconds of CLOCK_REALTIME; what has passed is now
    every: str | None = None  # a cron expression, by the daemon's local time
    restart: Restart = _NOT_AGAIN

    @classmethod
    def make(
        cls,
        /,
        argv: Sequence[object],
        *,
        environment: object = None,
        after: object = None,
        at: object = None,
        every: object = None,
        restart: object = None,
        **options: object,
    ) -> Self:
        """Check everything that was given; None stands for the default.

        Args:
            options: those of Spec.make.

        Raises:
            BadValue: naming the first field that cannot be.
        """
        _check_names(options)
        request = cls(
            spec=Spec.make(argv, **options),
            environment=_environment(environment),
            after=None if after is None else units.parse_duration("after", after, 0),
            at=None if at is None else times.parse_at("at", at),
            every=None if every is None else times.parse_every("every", every),
            restart=_NOT_AGAIN if restart is None else parse_restart("restart", restart),
        )
        _check_times(request, {"every": every, "at": at, "after": after})
        return request

    @classmethod
    def of_caller(
        cls, /, argv: Sequence[object], environ: Mapping[bytes, bytes], **options: object
    ) -> Self:
        """What a process with this environment asks for; the option env_file is read here.

        Raises:
            BadValue: naming the first field that cannot be.
        """
        from . import envfile

        options = envfile.with_files(options)
        request = cls.make(argv, **options)
        asked = {name for name, value in request.spec.env if value is None}
        taken = {
            name: value
            for name, value in environ.items()
            if request.spec.inherit_env or name in asked or is_of_the_caller(name)
        }
        return cls.make(argv, **options, environment=taken)

    def to_plain(self) -> dict[str, Any]:
        """As JSON values, every default left out: the body of POST /jobs/run."""
        told = wire.plain(self.spec)
        if self.environment:
            told["environment"] = wire.variables(self.environment.items())
        if self.after is not None:
            told["after"] = wire.seconds(self.after)
        if self.at is not None:
            told["at"] = times.format_at(self.at)
        if self.every is not None:
            told["every"] = self.every
        if self.restart != _NOT_AGAIN:
            told["restart"] = str(self.restart)
        return told

    @classmethod
    def from_plain(cls, asked: object) -> Self:
        """The request that somebody in another process makes, who may be anybody.

        Raises:
            BadRequest: it is no object.
            BadValue: naming the field that cannot be.
        """
        if not isinstance(asked, Mapping):
            raise BadRequest("a job is asked for with an object", hint='{"argv": ["ls", "-l"]}')
        options = wire.from_plain(asked)
        if "environment" in options:
            options["environment"] = wire.variables_of("environment", options["environment"])
        if options.get("cwd") is None:
            options["cwd"] = b"/"
        if "argv" not in options:
            raise BadValue("argv", None, "is no command: argv is missing", '["ls", "-l"]')
        with from_elsewhere():
            return cls.make(options.pop("argv"), **options)


def parse_restart(field: str, value: object) -> Restart:
    """ "no", "always", "on-failure", or "on-failure:N" for at most N more runs."""
    remedy = "no, on-failure, on-failure:N or always"
    if isinstance(value, str):
        kind, colon, limit = value.partition(":")
        if kind == "on-failure" and colon:
            return Restart("on-failure", units.parse_count(field, limit, 1, _RESTARTS_MAX))
        if kind in _KINDS and not colon:
            return Restart(_KINDS[kind])
    raise BadValue(field, value, "is not a restart policy", remedy)


def _environment(given: object) -> dict[bytes, bytes]:
    """Variables that have values; strict, as it is data of the client's, not typed by people."""
    found: dict[bytes, bytes] = {}
    if given is None:
        return found
    for name, value in parse_environment("environment", given):
        if value is None:
            raise BadValue("environment", name, "has no value")
        found[name] = value
    return found


_WHEN = ("after", "at", "every", "restart")


def _check_names(options: Mapping[str, object]) -> None:
    """Spec.make knows the options of a job alone, and could only mean one of those."""
    of_jobs = {each.name for each in fields(Spec)}
    for name, value in options.items():
        if name not in of_jobs and (meant := nearest(name, (*_WHEN, *of_jobs))):
            raise BadValue(name, value, "is for no option of a job", meant)


def _check_times(request: Request, given: Mapping[str, object]) -> None:
    """What says twice when a job is to run is refused, as it was given."""
    said = [name for name, value in given.items() if value is not None]
    if request.restart.kind != "no" and request.every is not None:
        why = "is for no job that is run again anyway, by {every}"
        raise BadValue("restart", str(request.restart), why, "give one of the two")
    if len(said) > 1:
        why = f"excludes {{{said[0]}}}"
        raise BadValue(said[1], given[said[1]], why, "give one of the two")
