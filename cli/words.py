"""What a shell may complete: the words that an option or an argument can have.

Told from the metavar, which says the same to people: PATH is a file, DIR a directory, a|b one of
two words. What has none of these completes as the shell itself does, see commands.completion.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_FILES = frozenset({"FILE", "FILE|-", "PATH", "PATH|SRC:DST", "PATH|DEV:LIMITS"})
_CHOICE = re.compile(r"[a-z]+(?:\|[a-z]+)+")


def of_metavar(metavar: str) -> Completer | None:
    """What completes the value that is called so in the help; None for the shell's own way."""
    metavar = metavar.removesuffix("...")
    if metavar in _FILES:
        return _file
    if metavar == "DIR":
        return _directory
    if metavar == "POLICY":
        return _of(("no", "on-failure", "always"))
    return _of(metavar.split("|")) if _CHOICE.fullmatch(metavar) else None


def command(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """CMD from the directories of PATH; its arguments are files, as far as we know."""
    if ctx.params.get("command") or "/" in incomplete:
        return _file(ctx, parameter, incomplete)
    return _items(sorted(_programs(incomplete)))


def _programs(beginning: str) -> set[str]:
    found = set()
    for directory in filter(None, os.environ.get("PATH", "").split(":")):
        try:
            with os.scandir(directory) as entries:
                found |= {entry.name for entry in entries if entry.name.startswith(beginning)}
        except OSError:
            continue  # a directory of PATH need not be there
    return found


def _of(words: Iterable[str]) -> Completer:
    known = tuple(words)
    return lambda _ctx, _parameter, incomplete: _items(
        word for word in known if word.startswith(incomplete)
    )


def _file(_ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _items([incomplete], "file")


def _directory(_ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _items([incomplete], "dir")


def _items(words: Iterable[str], kind: str = "plain") -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, kind) for word in words]
