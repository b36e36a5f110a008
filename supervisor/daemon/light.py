"""Imported before everything else of a daemon's process: leaves out what a daemon never uses.

asyncio and aiohttp take TLS along where they find it, which is four of forty megabytes; they do
well without. Whoever imports ssl later gets it.
"""

from __future__ import annotations

import sys

_hidden = "asyncio" not in sys.modules and "ssl" not in sys.modules
if _hidden:
    sys.modules["ssl"] = None  # type: ignore[assignment] # so that importing it raises ImportError

import asyncio  # noqa: E402
import urllib.request  # noqa: E402, F401

import aiohttp.web_server  # noqa: E402

__all__ = ["aiohttp", "asyncio"]

if _hidden:
    del sys.modules["ssl"]
