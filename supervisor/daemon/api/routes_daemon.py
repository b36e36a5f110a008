"""The requests about the daemon itself, and about everything that happens."""

from __future__ import annotations

import os
import time
from pathlib import Path

from aiohttp.http import HttpVersion11
from aiohttp.web_response import Response, StreamResponse

from ...protocol import API_VERSION, Control, Ping
from ...times import format_at
from ..finding import sees
from .answers import encoded, json_answer
from .call import Call
from .metrics import exposition
from .sending import chunk

_DOCUMENT = Path(__file__).with_name("openapi.json")


async def ping(call: Call) -> StreamResponse:
    """GET /ping"""
    from jobsup import __version__

    return json_answer(
        Ping(
            time=format_at(time.time_ns()),
            version=__version__,
            api=API_VERSION,
            ready=call.engine.ready,
            pid=os.getpid(),
            uptime_seconds=round(time.monotonic() - call.house.started, 3),
        )
    )


async def doctor(call: Call) -> StreamResponse:
    """GET /doctor"""
    return json_answer(await call.house.see_through(call.house.host.told()))


async def control(call: Call) -> StreamResponse:
    """GET /control"""
    if call.house.terminating:
        return json_answer(Control("terminating"))
    return json_answer(Control("ready" if call.engine.ready else "unready"))


async def start(call: Call) -> StreamResponse:
    """PUT /control/start"""
    await call.house.see_through(call.engine.set_ready(True))
    return await control(call)


async def stop(call: Call) -> StreamResponse:
    """PUT /control/stop"""
    await call.house.see_through(call.engine.set_ready(False))
    return await control(call)


async def terminate(call: Call) -> StreamResponse:
    """PUT /control/terminate"""
    with call.line():
        await call.house.see_through(_terminate(call))
    return await control(call)


async def _terminate(call: Call) -> None:
    call.house.terminating = True
    try:
        await call.engine.terminate()
    finally:
        call.house.terminating = False


async def events(call: Call) -> StreamResponse:
    """GET /events. A stream that ends without its last chunk was cut off: the daemon goes, or the
    client did not keep up."""
    wanted = None
    if "job" in call.query:
        wanted = (await call.engine.find(call.query["job"], call.peer)).id
    with (
        call.house.limits.following(call.peer),
        call.line() as line,
        call.engine.events.subscribe(sees(call.peer)) as happenings,
    ):
        answer = StreamResponse(
            headers={"Server": "jobsup", "Content-Type": "application/x-ndjson"}
        )
        writer = await answer.prepare(call.request)
        assert writer is not None
        await writer.drain()
        if call.request.method == "HEAD":
            return answer
        chunked = call.request.version >= HttpVersion11
        async for event in happenings:
            if wanted in (None, event.id):
                told = encoded(event)
                await line.send(chunk(told) if chunked else told)
    raise ConnectionResetError("the events are over")


async def metrics(call: Call) -> StreamResponse:
    """GET /metrics"""
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return Response(body=exposition(call.house), headers={"Server": "jobsup", "Content-Type": kind})


async def document(call: Call) -> StreamResponse:
    """GET /openapi.json"""
    # Read when it is asked for: few do, and it is large.
    return Response(
        body=_DOCUMENT.read_bytes(),
        headers={"Server": "jobsup", "Content-Type": "application/json"},
    )
