"""A job that comes with what it is to read: multipart/form-data (RFC 7578) of the parts `job` (its
JSON) and `stdin` (bytes), in this order. The bytes go to a file as they come; whatever goes wrong
on the way, no file is left."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from jobsup.isolation import reached

from ...errors import BadRequest
from .call import Call, too_large, too_slow
from .seam import Growing

T = TypeVar("T")

_READ = 64 << 10
_WRITE = 1 << 20
# What aiohttp's reader raises for a form that is none.
_MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    RequestPayloadError,
    HttpProcessingError,
)


@asynccontextmanager
async def received(call: Call, incoming: Path) -> AsyncIterator[tuple[bytes, Path]]:
    """The job's JSON and the file of its stdin, which is removed unless somebody moved it away.

    Raises:
        BadRequest: it is no such form.
        Refusal: it is too large, or does not come.
        QuotaExceeded: its owner has no room for it, or sends too many.
    """
    with call.engine.uploading(call.peer) as upload:
        async with _received(call, incoming, upload) as both:
            yield both


@asynccontextmanager
async def _received(
    call: Call, incoming: Path, upload: Growing
) -> AsyncIterator[tuple[bytes, Path]]:
    call.welcome_body()
    parts = await _timely(call, _form(call))
    job = b"".join([data async for data in _data(call, parts, "job", call.house.settings.body_max)])
    descriptor, name = tempfile.mkstemp(dir=incoming, prefix="stdin-")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:  # buffered: it writes all of it or raises
            async for data in _data(call, parts, "stdin", call.house.settings.stdin_max):
                upload.grow(len(data))
                # Not on the loop: a disk that is busy makes writers wait.
                await asyncio.to_thread(file.write, data)
                reached("upload-begun")
        if await _timely(call, parts.next()) is not None:
            raise BadRequest("the form has more than two parts")
        yield job, path
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - in a directory of the daemon's own


async def _form(call: Call) -> MultipartReader:
    return MultipartReader(call.request.headers, call.request.content)


async def _data(call: Call, parts: MultipartReader, name: str, most: int) -> AsyncIterator[bytes]:
    """The next part's bytes, in large pieces."""
    part = await _timely(call, parts.next())
    if not isinstance(part, BodyPartReader) or part.name != name:
        raise BadRequest("the form is to have two parts", hint="first job, then stdin")
    size, gathered = 0, bytearray()
    while not part.at_eof():
        data = await _timely(call, part.read_chunk(_READ))
        size += len(data)
        if size > most:
            raise too_large(most)
        gathered += data
        if len(gathered) >= _WRITE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def _timely(call: Call, work: Awaitable[T]) -> T:
    """What comes next, if anything comes in time."""
    seconds = call.house.header_seconds
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise too_slow(seconds) from None
    except _MALFORMED as error:
        raise BadRequest(f"the form cannot be read: {error}") from None
