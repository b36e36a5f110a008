"""How things are shown to people: errors, verdicts, findings, and help in groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jobsup.supervisor.doctor import Finding
    from jobsup.supervisor.verdict import Verdict


def error(message: str, hint: str | None) -> None:
    """What happened and why, and on a line of its own what to do about it."""
    click.echo(f"jobsup: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def flag_name(field: str) -> str:
    """A field of a spec as it is typed: "mem_high" is --mem-high."""
    return "CMD" if field == "argv" else f"--{field.replace('_', '-')}"


def verdict(ended: Verdict) -> None:
    """One line that says why a job ended, when its own exit code does not say it all."""
    if ended.cause == "exited" and (ended.exit_code == 0 or ended.hint is None):
        return
    hint = f"; try {ended.hint}" if ended.hint else ""
    click.echo(f"jobsup: {ended.message}{hint}", err=True)


_MARKS = {True: "ok", False: "missing", None: "warning"}


def findings(found: Sequence[Finding]) -> None:
    """A table: what was looked for, whether it is there, what was found; remedies below."""
    width = max((len(finding.name) for finding in found), default=0)
    for finding in found:
        click.echo(f"{_MARKS[finding.ok]:8} {finding.name:{width}}  {finding.found}")
        if finding.remedy and finding.ok is not True:
            click.echo(f"{'':8} {'':{width}}  {finding.remedy}")


def printable(line: str) -> str:
    """A line that any output can take: bytes that were not text are shown as escapes."""
    return line.encode(errors="backslashreplace").decode()


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
