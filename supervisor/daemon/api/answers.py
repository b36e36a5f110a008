"""What goes back to a client: a message as JSON, or an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp.web_response import Response

from ...errors import JobsupError
from .refusals import body_of

JSON = "application/json"
_encode = msgspec.json.Encoder().encode


def encoded(message: Any) -> bytes:  # noqa: ANN401 - any message of the protocol
    """A message as one line."""
    return _encode(message) + b"\n"


def json_answer(message: Any, status: int = 200, **headers: str) -> Response:  # noqa: ANN401
    """A message of the protocol."""
    return Response(
        body=encoded(message),
        status=status,
        headers={"Server": "jobsup", "Content-Type": JSON, **headers},
    )


def error_answer(error: JobsupError) -> Response:
    """An error, by its code."""
    status, body = body_of(error)
    return json_answer(body, status)


def raw_answer(error: JobsupError) -> bytes:
    """An error as a whole HTTP response, for who has sent no request."""
    status, body = body_of(error)
    content = encoded(body)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: jobsup\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
