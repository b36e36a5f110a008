"""What a run may cost before its job starts, in things that can be counted on any machine.

A budget that is exceeded is either spent by mistake, or raised here with the reason.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Modules of the standard library, beyond those that click has loaded. What is not here costs 1 to
# 10 ms, of the 45 in which a run starts: subprocess, pathlib, secrets, tempfile, json, logging …
MODULES = {
    "array",
    "contextvars",  # one line; what it is made of is built in
    "copy",
    "dataclasses",
    "fcntl",
    "grp",
    "pwd",
    "resource",
    "select",
    "selectors",
    "signal",
    "socket",
    "struct",
}
# A frozen dataclass compiles six functions, 0.4 ms; a named tuple is made in a tenth of that.
DATACLASSES = 10

COMMAND = "import jobsup.cli.main, jobsup.cli.commands.run, jobsup.supervisor.foreground"
LIBRARY = "import jobsup.supervisor.library"


def printed(code: str) -> set[str]:
    """The words that a fresh interpreter prints."""
    command = [sys.executable, "-I", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def modules(code: str) -> set[str]:
    """The public modules of others that are loaded after `code`."""
    found = {name.partition(".")[0] for name in printed(f"import sys; {code}; print(*sys.modules)")}
    return {name for name in found if not name.startswith("_")} - {"jobsup"}


@pytest.mark.parametrize("code", [COMMAND, LIBRARY])
def test_a_run_loads_no_module_that_is_not_in_the_budget(code: str) -> None:
    assert modules(code) - modules("import click") <= MODULES


def test_importing_jobsup_loads_nothing() -> None:
    assert modules("import jobsup") <= modules("import typing")


# What the daemon is made of, or what only some commands need: 10 to 100 ms each.
NEVER_OF_A_CLIENT = {
    *("aiohttp", "asyncinotify", "asyncio", "concurrent", "cronsim", "email", "http", "logging"),
    *("multiprocessing", "sqlite3", "ssl", "subprocess", "tempfile", "urllib"),
}


@pytest.mark.parametrize(
    "command", ["change", "control", "ls", "out", "start", "status", "verbs", "wait"]
)
def test_a_client_loads_nothing_of_the_daemons(command: str) -> None:
    code = f"import jobsup.cli.main, jobsup.cli.commands.{command}"
    code += ", jobsup.supervisor.client.blocking, jobsup.supervisor.client.asked"
    assert not (modules(code) - modules("import click")) & NEVER_OF_A_CLIENT


def test_a_run_defines_few_dataclasses() -> None:
    count = f"""
{COMMAND}
import sys
for name, module in list(sys.modules.items()):
    for value in vars(module).values() if name.startswith("jobsup.") else ():
        if isinstance(value, type) and "__dataclass_fields__" in vars(value):
            print(f"{{value.__module__}}.{{value.__qualname__}}")
"""
    found = {name for name in printed(count) if name.startswith("jobsup.")}
    assert "jobsup.supervisor.spec.Spec" in found
    assert len(found) <= DATACLASSES, sorted(found)
