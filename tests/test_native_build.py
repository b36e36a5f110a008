"""The C parts build from nothing, without a warning, and are what the rest relies on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobsup.isolation.native import build as native

PT_INTERP = 3  # the ELF program header that names a dynamic loader


class Built(NamedTuple):
    """The two artefacts of one build."""

    extension: Path
    init: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(*native.build(tmp_path_factory.mktemp("native")))


def program_headers(elf: bytes) -> list[int]:
    """The types of a 64-bit ELF file's program headers."""
    assert elf[:5] == b"\x7fELF\x02"
    offset = int.from_bytes(elf[32:40], "little")
    size, count = (int.from_bytes(elf[at : at + 2], "little") for at in (54, 56))
    starts = range(offset, offset + size * count, size)
    return [int.from_bytes(elf[start : start + 4], "little") for start in starts]


def test_the_init_is_static(built: Built) -> None:
    assert PT_INTERP not in program_headers(built.init.read_bytes())
    assert PT_INTERP in program_headers(Path(sys.executable).read_bytes())


@pytest.mark.requires("musl")
def test_the_init_is_small(built: Built) -> None:
    """Every job has one: its size is what an idle job costs."""
    assert built.init.stat().st_size < 100 * 1024


def test_the_extension_imports(built: Built) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import _native; print(_native.lib)"
    argv = [sys.executable, "-I", "-c", code, str(built.extension.parent)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Lib object" in said


def test_a_second_build_does_nothing(built: Built) -> None:
    before = [path.stat().st_mtime_ns for path in built]
    native.build(built.init.parent)
    assert [path.stat().st_mtime_ns for path in built] == before


def test_a_lost_artefact_is_built_again(built: Built) -> None:
    built.init.unlink()
    native.build(built.init.parent)
    assert built.init.exists()


def test_nothing_else_is_left_behind(built: Built) -> None:
    names = {path.name for path in built.init.parent.iterdir()}
    assert names == {native.EXTENSION, native.INIT, native.STAMP}


@pytest.mark.parametrize("sanitize", ["undefined", "address,undefined"])
def test_sanitizer_builds_compile(tmp_path: Path, sanitize: str) -> None:
    for path in native.build(tmp_path, sanitize):
        assert path.stat().st_size > 0


def test_missing_sources_are_named(tmp_path: Path, copy_of_build: Callable[[Path], Any]) -> None:
    """A clone without its C files says so, rather than what the compiler makes of it."""
    build = copy_of_build(tmp_path)
    with pytest.raises(build.BuildError, match=r"shim\.c is missing"):
        build.build(tmp_path / "out")


def test_a_warning_stops_the_build(tmp_path: Path, copy_of_build: Callable[[Path], Any]) -> None:
    build = copy_of_build(tmp_path)
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "main.c").write_text("int main(void) { int unused; return 0; }\n")
    for name in ("abi.h", "shim.h", "shim.c"):
        (tmp_path / name).write_text("int shim(void);\n" if name == "shim.h" else "")
    with pytest.raises(build.BuildError, match="unused"):
        build.build(tmp_path / "out")


@pytest.fixture
def copy_of_build() -> Callable[[Path], Any]:
    """Load build.py as if it lay in another folder, which is where it then looks for sources."""

    def load(folder: Path) -> Any:  # noqa: ANN401  # a module made at run time
        import importlib.util

        copy = folder / "build.py"
        copy.write_text(Path(native.__file__).read_text())
        spec = importlib.util.spec_from_file_location("build_copy", copy)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(
    ("header", "left"),
    [
        ("#include <stdint.h>\nint f(void);", "int f(void);"),
        ("#define GUARD_H\n#define N (64u) /* why */", "#define N 64"),
        ("#define LONG(x) \\\n  (x + 1)\nint g(void);", "int g(void);"),
        ("#define MASK 0xffUL", "#define MASK 0xff"),
        ('_Static_assert(sizeof(int) == 4,\n  "int");\nint h(void);', "int h(void);"),
        ("enum { A = 1 };", "enum { A = 1 };"),
    ],
)
def test_cdef_keeps_what_cffi_reads(header: str, left: str) -> None:
    assert native.cdef(header).strip() == left
