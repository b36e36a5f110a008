"""What the compiled module offers to the type checker.

cffi makes `lib` and `ffi` at build time from shim.h, which no type checker reads. `Any` is
therefore true here and allowed nowhere else: the one module that imports this one gives each
function its types.
"""

from typing import Any

from cffi import FFI

ffi: FFI
lib: Any
