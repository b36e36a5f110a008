"""Builds the C parts of jobsup. Nothing else knows how.

    _native.abi3.so   shim.c behind cffi (API mode, stable ABI): one file for every Python >= 3.11
    _init             init/*.c, a static program: PID 1 of every job

The packaging hook (pdm_build.py), `./run` and the tests call `build`; a person calls

    .venv/bin/python isolation/native/build.py

which builds in place, into isolation/. A build is skipped when a hash of its sources, flags and
compilers matches the one that the last build left beside its results.

The cdef, that is what Python may call, is abi.h + shim.h themselves without their preprocessor
lines, so that C and Python cannot disagree. These two headers therefore keep to what cffi can
read: plain types, structs, enums, prototypes, and `#define NAME <integer>`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NATIVE = Path(__file__).resolve().parent
EXTENSION = "_native.abi3.so"
INIT = "_init"
STAMP = ".native-stamp"

# The oldest Python whose stable ABI we use; pyproject.toml's requires-python says the same.
LIMITED_API = "-DPy_LIMITED_API=0x030b0000"

WARNINGS = (
    "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
    "-Wvla",
)  # fmt: skip
HARDENING = ("-fstack-protector-strong", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack")
COMMON = ("-std=gnu11", "-O2")


class BuildError(Exception):
    """The C parts could not be built; the message says what to do or shows the compiler's words."""


class Command(NamedTuple):
    """One compiler run; `output` is the file it makes, inside the build's scratch directory."""

    argv: tuple[str, ...]
    output: str


def build(out_dir: Path, sanitize: str | None = None) -> tuple[Path, Path]:
    """Build both artefacts into `out_dir` unless they are up to date; return their paths.

    `sanitize` is a value for gcc's -fsanitize, such as "undefined" or "address,undefined". Such
    an init is for tests: it is built with glibc, because no sanitizer's runtime exists for musl.

    Raises BuildError.
    """
    extension, init = out_dir / EXTENSION, out_dir / INIT
    commands = [*_extension_commands(sanitize), _init_command(sanitize)]
    wanted = _fingerprint(commands)
    stamp = out_dir / STAMP
    if extension.exists() and init.exists() and stamp.exists() and stamp.read_text() == wanted:
        return extension, init

    out_dir.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed into place: a running init keeps its old file, where writing over it
    # would fail with ETXTBSY, and a build that is cut short leaves the previous result whole.
    with tempfile.TemporaryDirectory(prefix=".native-", dir=out_dir) as name:
        scratch = Path(name)
        _generate_glue(scratch / "glue.c")
        for command in commands:
            _run(command, scratch)
        stamp.unlink(missing_ok=True)
        for artefact in (extension, init):
            os.replace(scratch / artefact.name, artefact)
    stamp.write_text(wanted)
    return extension, init


def _extension_commands(sanitize: str | None) -> list[Command]:
    includes = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    common = (
        *_compiler(), *COMMON, *_fortify(sanitize), *_sanitizer(sanitize), *HARDENING,
        "-fPIC", "-fvisibility=hidden", f"-I{NATIVE}",
    )  # fmt: skip
    shim = _needed(NATIVE / "shim.c")
    python = (LIMITED_API, *(f"-I{path}" for path in sorted(includes)))
    # cffi's generated code has unused parameters by design; everything that we wrote has not.
    glue_warnings = ("-Wall", "-Werror")
    return [
        Command((*common, *WARNINGS, "-c", str(shim), "-o"), "shim.o"),
        Command((*common, *glue_warnings, *python, "-c", "glue.c", "-o"), "glue.o"),
        Command((*common, "-shared", "glue.o", "shim.o", "-o"), EXTENSION),
    ]


def _init_command(sanitize: str | None) -> Command:
    sources = sorted((NATIVE / "init").glob("*.c"))
    if not sources:
        raise BuildError(f"no C sources in {NATIVE / 'init'}: the checkout is incomplete")
    return Command(
        (
            *_init_compiler(sanitize), *COMMON, *WARNINGS, *HARDENING, f"-I{NATIVE}",
            *map(str, sources), "-o",
        ),
        INIT,
    )  # fmt: skip


def _init_compiler(sanitize: str | None) -> tuple[str, ...]:
    """The compiler of the init, with the flags that depend on which one it is."""
    musl = shutil.which("musl-gcc")
    if musl and not sanitize:
        # musl: 17 KB and 28 KB resident a job, where glibc takes 700 of each. Its wrapper hides
        # /usr/include, where the kernel's headers live; -idirafter lets musl's own come first.
        multiarch = _output(musl, "-print-multiarch") or _output("cc", "-print-multiarch")
        kernel_headers = ("/usr/include", f"/usr/include/{multiarch}")
        after = (flag for path in kernel_headers for flag in ("-idirafter", path))
        return (musl, "-static", "-s", *after)
    if sanitize and "address" in sanitize:
        return (*_compiler(), *_sanitizer(sanitize))  # AddressSanitizer cannot be linked statically
    return (*_compiler(), "-static", *_fortify(sanitize), *_sanitizer(sanitize))


def _compiler() -> tuple[str, ...]:
    name = os.environ.get("CC", "cc")
    if not shutil.which(name):
        raise BuildError(f"no C compiler: {name!r} is not in PATH (Debian: gcc libc6-dev)")
    return (name,)


def _fortify(sanitize: str | None) -> tuple[str, ...]:
    """Fortified libc calls hide the overflow from the sanitizer, and musl has none."""
    return () if sanitize else ("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2")


def _sanitizer(sanitize: str | None) -> tuple[str, ...]:
    """The flags of a sanitizer's build; an ordinary one is stripped instead."""
    if not sanitize:
        return ("-s",)
    return (f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-g", "-fno-omit-frame-pointer")


def _generate_glue(path: Path) -> None:
    """Write the C that makes shim.h a Python module."""
    from cffi import FFI

    headers = [_needed(NATIVE / name) for name in ("abi.h", "shim.h")]
    ffi = FFI()
    ffi.cdef("\n".join(cdef(header.read_text()) for header in headers))
    ffi.set_source("_native", '#include "abi.h"\n#include "shim.h"\n')
    with contextlib.redirect_stdout(None):  # it announces the file that it writes
        ffi.emit_c_code(str(path))


def cdef(header: str) -> str:
    """Reduce a C header to what cffi reads: no preprocessor lines but integer constants."""
    joined = header.replace("\\\n", " ")
    constant = re.compile(r"#define\s+\w+\s+\(?(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\)?\s*(/[/*].*)?$")
    kept = (
        _plain_constant(line) if constant.match(line) else line
        for line in joined.splitlines()
        if not line.lstrip().startswith("#") or constant.match(line)
    )
    return re.sub(r"_Static_assert\s*\(.*?\)\s*;", "", "\n".join(kept), flags=re.DOTALL)


def _plain_constant(line: str) -> str:
    """`#define N (64u)  /* why */` as cffi wants it: `#define N 64`."""
    name, value = line.split(None, 2)[1:]
    number = re.match(r"\(?(0[xX][0-9a-fA-F]+|\d+)", value)
    assert number
    return f"#define {name} {number[1]}"


def _needed(path: Path) -> Path:
    if not path.exists():
        raise BuildError(f"{path} is missing: the checkout is incomplete")
    return path


def _fingerprint(commands: Sequence[Command]) -> str:
    """A hash of everything that the result depends on."""
    digest = hashlib.sha256()
    for command in commands:
        digest.update(repr(command).encode())
    for compiler in sorted({command.argv[0] for command in commands}):
        digest.update(_output(compiler, "--version").encode())
    sources = (path for path in NATIVE.rglob("*") if path.suffix in {".c", ".h", ".py"})
    for path in sorted(sources):
        digest.update(f"{path.relative_to(NATIVE)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def _run(command: Command, cwd: Path) -> None:
    argv = (*command.argv, command.output)
    done = subprocess.run(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(argv)}\n{done.stdout}{done.stderr}".rstrip())


def main() -> None:
    """Build in place and name the results."""
    try:
        for path in build(NATIVE.parent):
            print(path)
    except BuildError as error:
        sys.exit(f"build.py: {error}")


if __name__ == "__main__":
    main()
