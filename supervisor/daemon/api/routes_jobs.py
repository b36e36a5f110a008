"""The requests about jobs: each decodes, asks the engine, encodes."""

from __future__ import annotations

from aiohttp.web_response import StreamResponse

from ...errors import BadRequest
from ...protocol import Pruned, PruneRequest, SignalRequest, StopRequest
from ...request import Request
from ...units import parse_grace
from ..paths import Paths
from ..records import Record
from . import attach, upload
from .answers import json_answer
from .call import Call, decoded
from .queries import parse_signal

_FORM = "multipart/form-data"


async def run(call: Call) -> StreamResponse:
    """POST /jobs/run"""
    if call.request.content_type == _FORM:
        paths = Paths(call.house.settings.lib, call.house.settings.run)
        async with upload.received(call, paths.incoming) as (job, stdin):
            request = _request(job)
            # Seen through here, so that the file is there for as long as the engine wants it.
            started = await call.house.see_through(
                call.engine.submit(request, call.peer, stdin=stdin)
            )
        return json_answer(started, 201)
    request = _request(await call.body())
    if attach.wants(call):
        return await attach.attached(call, request)
    return json_answer(await call.house.see_through(call.engine.submit(request, call.peer)), 201)


def _request(raw: bytes) -> Request:
    return Request.from_plain(decoded(raw, object))


async def page(call: Call) -> StreamResponse:
    """GET /jobs"""
    return json_answer(await call.engine.page(call.peer, **call.query))


async def prune(call: Call) -> StreamResponse:
    """POST /jobs/prune"""
    asked = await call.message(PruneRequest)
    return json_answer(Pruned(await call.house.see_through(call.engine.prune(call.peer, asked))))


async def status(call: Call) -> StreamResponse:
    """GET /jobs/{ref}/status"""
    return await _status(call, await call.job())


async def _status(call: Call, record: Record) -> StreamResponse:
    return json_answer(await call.engine.status(record))


async def wait(call: Call) -> StreamResponse:
    """GET /jobs/{ref}/wait"""
    record = await call.job()
    with call.line():
        return json_answer(await call.engine.wait(record, call.query.get("timeout")))


async def stop(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/stop"""
    record, asked = await call.job(), await call.message(StopRequest)
    number = None if asked.signal is None else parse_signal("signal", asked.signal)
    grace = None if asked.grace is None else parse_grace("grace", asked.grace) // 1000
    await call.house.see_through(call.engine.stop(record, number, grace))
    return await _status(call, record)


async def kill(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/kill"""
    record = await call.job()
    await call.house.see_through(call.engine.kill(record))
    return await _status(call, record)


async def signal(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/signal"""
    record, asked = await call.job(), await call.message(SignalRequest)
    number = parse_signal("signal", asked.signal)
    await call.house.see_through(call.engine.signal(record, number))
    return await _status(call, record)


async def pause(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/pause"""
    record = await call.job()
    await call.house.see_through(call.engine.pause(record))
    return await _status(call, record)


async def resume(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/resume"""
    record = await call.job()
    await call.house.see_through(call.engine.resume(record))
    return await _status(call, record)


async def change(call: Call) -> StreamResponse:
    """PUT /jobs/{ref}/set"""
    record, options = await call.job(), await call.message(dict)
    if not options:
        raise BadRequest("nothing is to be changed", hint='{"mem": "512M"}')
    return json_answer(await call.house.see_through(call.engine.change(record, options)))


async def remove(call: Call) -> StreamResponse:
    """DELETE /jobs/{ref}"""
    record = await call.job()
    force = call.query.get("force", False)
    await call.house.see_through(call.engine.remove(record, force=force))
    return json_answer(Pruned([record.id]))
