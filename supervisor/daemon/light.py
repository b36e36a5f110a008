"""Imported before everything else of a daemon's process: leaves out what a daemon never uses.

asyncio and aiohttp take TLS along where they find it, which is four of forty megabytes, and hashlib
OpenSSL's digests, which are three more; they do well without, if Python has digests of its own.
Whoever imports ssl later gets it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

_hidden = ["ssl"] if sys.modules.keys().isdisjoint({"asyncio", "ssl"}) else []
if "hashlib" not in sys.modules and all(map(find_spec, ("_md5", "_sha1", "_sha3", "_blake2"))):
    _hidden.append("_hashlib")
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment] # so that importing it raises ImportError

import asyncio  # noqa: E402
import urllib.request  # noqa: E402, F401

import aiohttp.web_server  # noqa: E402

__all__ = ["aiohttp", "asyncio"]

for _name in _hidden:
    del sys.modules[_name]
