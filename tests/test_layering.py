"""The direction of imports, checked on the source: cli → supervisor → isolation, by their doors.

    isolation    imports neither of the others
    supervisor   imports `jobsup.isolation` itself, and there only names that it exports
    cli          imports the modules of supervisor in CLI_MAY_IMPORT, nothing of isolation
    the daemon's API (supervisor.daemon.api) is imported by supervisor.daemon.serve only

Inside a folder imports are relative, across folders absolute (`jobsup.x`). One module touches the
compiled `_native`. No cycle among imports at module level. An import inside a function, or under
TYPE_CHECKING, obeys the direction too, but makes no cycle.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("isolation", "supervisor", "cli")
CLI_MAY_IMPORT = {
    "client",
    "daemon.serve",  # `jobsup serve` becomes the daemon; nothing else of it
    "doctor",
    "embedded",
    "envfile",
    "errors",
    "foreground",
    "protocol",
    "spec",
    "systemd",
    "units",
    "verdict",
}
API = "supervisor.daemon.api"
JOINS = "supervisor.daemon.serve"


class Import(NamedTuple):
    """One imported name: `target` is the module's absolute path, `name` what is taken from it."""

    importer: str  # "supervisor.job"
    line: int
    target: str  # "jobsup.isolation"
    name: str | None  # None for `import target`
    relative: bool
    at_load: bool  # executed when the importer is loaded

    @property
    def folder(self) -> str:
        return self.importer.partition(".")[0]

    @property
    def reached(self) -> str:
        """Folder and path of what is reached, "isolation.spawn"; "" for anything foreign."""
        package, _, rest = self.target.partition(".")
        if package != "jobsup":
            return ""
        return ".".join(filter(None, (rest, self.name)))

    def __str__(self) -> str:
        what = f"{self.name} from {self.target}" if self.name else self.target
        return f"{self.importer}:{self.line} imports {what}"


def modules(tree: Path) -> dict[str, Path]:
    """Module path to file: "supervisor.job", and "supervisor" for its __init__."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((tree / folder).rglob("*.py")):
            parts = path.relative_to(tree).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if not name.startswith("isolation.native"):  # the build, no part of the package
                found[name] = path
    return found


def imports(tree: Path) -> list[Import]:
    return [
        entry
        for name, path in modules(tree).items()
        for entry in _imports_of(name, path.name == "__init__.py", ast.parse(path.read_text()))
    ]


def _imports_of(module: str, is_package: bool, source: ast.Module) -> Iterator[Import]:
    package = module if is_package else module.rpartition(".")[0]
    for node, at_load in _walk(source, True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, None, False, at_load)
        elif isinstance(node, ast.ImportFrom):
            target = node.module or ""
            if node.level:
                base = ["jobsup", *package.split(".")][: -(node.level - 1) or None]
                target = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(module, node.lineno, target, alias.name, node.level > 0, at_load)


def _walk(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        deferred = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, at_load
        yield from _walk(child, at_load and not deferred and not typing_only)


def exports(tree: Path, folder: str) -> set[str]:
    """The names in a folder's __all__."""
    path = tree / folder / "__init__.py"
    for node in ast.parse(path.read_text() if path.exists() else "").body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            return set(ast.literal_eval(node.value))
    return set()


def breaches(tree: Path) -> list[str]:
    """Everything that breaks a rule of this module's docstring."""
    found = imports(tree)
    door = exports(tree, "isolation")
    wrong = [f"{entry}: {why}" for entry in found if (why := _breach(entry, door))]
    native = sorted({e.importer for e in found if e.reached.startswith("isolation._native")})
    if len(native) > 1:
        wrong.append(f"_native is imported by {', '.join(native)}: one module may")
    return wrong + _cycles(tree, found)


def _breach(entry: Import, door: set[str]) -> str | None:
    top = entry.target.partition(".")[0]
    if top in FOLDERS:
        return f"the import name is jobsup.{top}"
    folder, _, inner = entry.reached.partition(".")
    if folder not in FOLDERS:
        return None
    if folder == entry.folder:
        return _breach_inside(entry)
    if entry.relative:
        return "across folders imports are absolute"
    match entry.folder, folder:
        case "supervisor", "isolation":
            allowed = entry.target == "jobsup.isolation" and (not inner or inner in door)
            return None if allowed else "only what the door of isolation exports"
        case "cli", "supervisor":
            parts = inner.split(".")
            leading = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            return (
                None
                if leading & CLI_MAY_IMPORT
                else f"cli may import {', '.join(sorted(CLI_MAY_IMPORT))}"
            )
        case _:
            return f"{entry.folder} may not import {folder}"


def _breach_inside(entry: Import) -> str | None:
    if not entry.relative:
        return "inside a folder imports are relative"
    enters = _is_in(entry.reached, API) and not _is_in(entry.importer, API)
    return "the API is known to serve only" if enters and entry.importer != JOINS else None


def _is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _cycles(tree: Path, found: list[Import]) -> list[str]:
    known = modules(tree)
    graph: dict[str, set[str]] = {name: set() for name in known}
    # A cycle across folders goes against the direction somewhere, and that is told already.
    inside = (entry for entry in found if entry.reached.partition(".")[0] == entry.folder)
    for entry in filter(lambda entry: entry.at_load, inside):
        # `from .x import y` loads x, and x.y if that is a module; never the importer itself.
        reached = {entry.reached, entry.reached.rpartition(".")[0]} & known.keys()
        graph[entry.importer] |= _most_inner(reached) - {entry.importer}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["cycle: " + " → ".join(error.args[1])]
    return []


def _most_inner(reached: set[str]) -> set[str]:
    """`from . import x` means x, not the package that it was reached through."""
    pairs = itertools.permutations(reached, 2)
    return reached - {outer for outer, inner in pairs if inner.startswith(outer + ".")}


def test_the_checkout_obeys() -> None:
    assert breaches(REPO) == []


def test_the_checkout_was_seen() -> None:
    """A checker that finds no files finds no breaches either."""
    assert {name.partition(".")[0] for name in modules(REPO)} == set(FOLDERS)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree that obeys; each test below breaks it in one place."""
    files = {
        "isolation/__init__.py": "from .spawn import Init\n__all__ = ['Init']\n",
        "isolation/spawn.py": "from . import shim\nfrom .errors import E\nclass Init: pass\n",
        "isolation/shim.py": "from ._native import lib\n",
        "isolation/errors.py": "class E(Exception): pass\n",
        "supervisor/__init__.py": "",
        "supervisor/errors.py": "from jobsup.isolation import Init\nimport jobsup.isolation\n",
        "supervisor/job.py": "import os\nfrom .errors import X\n",
        "supervisor/daemon/api/server.py": "from ..engine import Engine\nfrom .call import Call\n",
        "supervisor/daemon/serve.py": "from .api.server import Server\n",
        "supervisor/daemon/engine.py": "from ..errors import X\n",
        "cli/__init__.py": "",
        "cli/main.py": "from jobsup.supervisor import errors\n",
        "cli/commands/ls.py": "from ..main import main\nfrom jobsup.supervisor.errors import X\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_sound_tree_has_no_breach(tree: Path) -> None:
    assert breaches(tree) == []


@pytest.mark.parametrize(
    ("file", "line", "why"),
    [
        ("isolation/errors.py", "import jobsup.supervisor", "isolation may not import supervisor"),
        ("isolation/errors.py", "from jobsup import cli", "isolation may not import cli"),
        ("isolation/errors.py", "from jobsup.isolation import shim", "are relative"),
        ("isolation/errors.py", "from ..supervisor import job", "are absolute"),
        ("isolation/errors.py", "from ._native import ffi", "one module may"),
        ("isolation/errors.py", "from . import spawn", "cycle"),
        ("isolation/errors.py", "import supervisor", "the import name is jobsup.supervisor"),
        ("supervisor/job.py", "from jobsup.isolation.spawn import Init", "the door"),
        ("supervisor/job.py", "from jobsup.isolation import spawn", "the door"),
        ("supervisor/job.py", "import jobsup.isolation.spawn", "the door"),
        ("supervisor/job.py", "def f():\n    from jobsup.isolation import spawn", "the door"),
        ("supervisor/job.py", "from jobsup.cli import main", "may not import cli"),
        ("supervisor/errors.py", "from .job import Job", "cycle"),
        ("supervisor/daemon/engine.py", "from .api import call", "known to serve only"),
        ("supervisor/daemon/engine.py", "from .api.call import Call", "known to serve only"),
        ("cli/main.py", "from jobsup.supervisor.job import Job", "cli may import"),
        ("cli/main.py", "from jobsup.supervisor import job", "cli may import"),
        ("cli/main.py", "from jobsup.supervisor.daemon import engine", "cli may import"),
        ("cli/main.py", "import jobsup.isolation", "cli may not import isolation"),
        ("cli/commands/ls.py", "from ...supervisor import errors", "are absolute"),
    ],
)
def test_a_breach_is_found(tree: Path, file: str, line: str, why: str) -> None:
    with (tree / file).open("a") as out:
        out.write(line + "\n")
    found = breaches(tree)
    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    "late",
    [
        "def f():\n    from .job import Job",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .job import Job",
    ],
)
def test_a_late_import_makes_no_cycle(tree: Path, late: str) -> None:
    with (tree / "supervisor/errors.py").open("a") as out:
        out.write(late + "\n")
    assert breaches(tree) == []
