"""How things are shown to people: errors, verdicts, findings, and help in groups."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jobsup.supervisor.doctor import Finding
    from jobsup.supervisor.protocol import HostFinding
    from jobsup.supervisor.verdict import Verdict


HELP_FLAGS = {"help_option_names": ["-h", "--help"]}  # a context setting of every command


def error(message: str, hint: str | None) -> None:
    """What happened and why, and on a line of its own what to do about it."""
    _tell(f"jobsup: {message}")
    if hint:
        _tell(f"hint: {hint}")


def _tell(line: str) -> None:
    """A line on stderr, which may quote somebody's text. That nobody can read it changes nothing
    about how a job ended."""
    with suppress(OSError):
        click.echo(safe(line), err=True)


def flag_name(field: str, value: str | None = None) -> str:
    """A field of a spec as it is typed: "mem_high" is --mem-high."""
    flag = "CMD" if field == "argv" else f"--{field.replace('_', '-')}"
    return flag if value is None else f"{flag} {value}"


def verdict(ended: Verdict) -> None:
    """One line that says why a job ended, when its own exit code does not say it all."""
    lost = ended.output.get("lost_bytes") and ended.output.get("errno") != "EPIPE"
    if ended.cause == "exited" and not lost and (ended.exit_code == 0 or ended.hint is None):
        return
    if ended.cause == "signaled" and not lost and ended.signal == "SIGPIPE":
        return  # whoever closed the pipe wanted no more
    hint = f"; {advice(ended.cause, ended.setup_failure, ended.hint)}" if ended.hint else ""
    _tell(f"jobsup: {ended.message}{hint}")


def advice(cause: str | None, setup_failure: object, hint: str) -> str:
    """A verdict's hint as its reader is told it: something to try. Only a job for which no init
    was made has the hint of an error, which is a sentence of its own."""
    return hint if cause == "setup" and setup_failure is None else f"try {hint}"


_MARKS = {True: "✓", None: "!", False: "✗"}
_ASCII_MARKS = {True: "+", None: "!", False: "x"}


def findings(found: Sequence[Finding | HostFinding]) -> None:
    """A line for each finding, below it how to remedy what is not there, at the end what it all
    means. A remedy that several in a row share is told once, below the last of them."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    marks = _MARKS if unicode else _ASCII_MARKS
    width = max((len(finding.name) for finding in found), default=0)
    for finding, following in zip_longest(found, found[1:]):
        click.echo(printable(f"{marks[finding.ok]} {finding.name:{width}}  {finding.found}"))
        shared = following is not None and following.remedy == finding.remedy
        if finding.remedy and not shared:
            click.echo(printable(f"{'':{width + 3}} {finding.remedy}"))
    click.echo(_conclusion(found, marks))


def _conclusion(found: Sequence[Finding | HostFinding], marks: dict[bool | None, str]) -> str:
    missing = sum(finding.ok is False for finding in found)
    if missing:
        return f"Jobs cannot run here: {missing} of {len(found)} are missing ({marks[False]})."
    if any(finding.ok is None for finding in found):
        return f"Jobs can run here; what is marked {marks[None]} is needed by some options only."
    return "Jobs can run here."


def printable(line: str) -> str:
    """A line that any output can take: bytes that were not text are shown as escapes."""
    return line.encode(errors="backslashreplace").decode()


def safe(text: str) -> str:
    """A line of somebody's text: what a terminal would act upon, or cannot show, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "replace").decode()
        for each in text
    )


def shortened(text: str, width: int) -> str:
    """A text of at most `width` characters."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def tell(line: str) -> None:
    """A line on stderr, for people."""
    _tell(line)


class GroupedOption(click.Option):
    """An option that is listed under a heading of the help."""

    def __init__(self, declarations: Sequence[str], *, group: str, **options: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(declarations, **options)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists the options under their headings, the ungrouped ones last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                heading = parameter.group if isinstance(parameter, GroupedOption) else None
                (last if heading is None else groups.setdefault(heading, [])).append(record)
        for heading, records in [*groups.items(), ("Other", last)]:
            with formatter.section(heading):
                formatter.write_dl(records, col_max=30)
