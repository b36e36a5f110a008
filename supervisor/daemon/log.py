"""What the daemon says on stderr: one line an event, `what happened key=value …`.

A value that a user had a hand in (a name, a path, a request) is printed so that it can neither
begin a line of its own nor move a terminal's cursor: quoted, every control and foreign character
escaped. Under the journal a line bears its level as "<6>"; else its time and its level's name.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import traceback
from collections.abc import Mapping

codecs.lookup("unicode_escape")  # loads it: there may be no descriptor left when it is needed
_PLAIN = re.compile(r"[\w.,:/@%+=^-]+", re.ASCII)
_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class Log:
    """Events with their values. A value that is None is left out; one that is an exception is told
    with its type, and by `error` with its traceback, in the same line."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("jobsup")

    def debug(self, what: str, **values: object) -> None:
        """What only who looks for a fault wants to know: each request, each connection."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug(line(what, values))

    def info(self, what: str, **values: object) -> None:
        """What happened, as it should."""
        self._logger.info(line(what, values))

    def warning(self, what: str, **values: object) -> None:
        """What should not happen, and was dealt with."""
        self._logger.warning(line(what, values))

    def error(self, what: str, **values: object) -> None:
        """What should not happen, and was not."""
        traces = [_trace(value) for value in values.values() if isinstance(value, BaseException)]
        values["traceback"] = "".join(traces) or None
        self._logger.error(line(what, values))


log = Log()


def line(what: str, values: Mapping[str, object]) -> str:
    """`what key=value …`."""
    pairs = [f"{key}={shown(value)}" for key, value in values.items() if value is not None]
    return " ".join([what, *pairs])


def shown(value: object) -> str:
    """A value as one word, of printable ASCII only."""
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    text = os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else str(value)
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class Lines(logging.Formatter):
    """Others' messages (asyncio's, aiohttp's) are escaped too: they may quote a request."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S%z")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += " traceback=" + shown(self.formatException(record.exc_info))
        text = _one_line(text)
        if self._journal:
            return f"<{_SYSLOG.get(record.levelno, 5)}>{text}"
        return f"{self.formatTime(record, self.datefmt)} {record.levelname.lower()} {text}"


def _one_line(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def set_up(level: int = logging.INFO, environment: Mapping[str, str] = os.environ) -> None:
    """Send all loggers of the process to stderr, as this module's docstring says."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(journal="JOURNAL_STREAM" in environment))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("jobsup").setLevel(level)
