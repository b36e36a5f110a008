"""openapi.json: made from the table of routes and the messages, and checked in beside this file.

    python -m jobsup.supervisor.daemon.api.openapi

writes it anew. A test compares the two, and another asks the running server for every answer that
the document promises. No part of the daemon imports this.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec

from ...protocol import API_VERSION, ERROR_STATUS, ErrorBody
from ...request import Request
from ...spec import Spec
from .output import KIND
from .queries import Parameter
from .routes import ROUTES, Route

DOCUMENT = Path(__file__).with_name("openapi.json")
_REFERENCE = "#/components/schemas/{name}"
_JSON = "application/json"
# Whatever is asked for, these may be answered.
_ALWAYS = ("bad-request", "too-slow", "internal", "overloaded")
_ABOUT = """HTTP/1.1 on the Unix socket /run/jobsup/jobsup.sock.

Who asks is known by the socket's peer credentials: root sees every job, anybody else their own,
and another's job is answered as one that is not there. A {ref} is a job's id, the beginning of
one, or a name. Every answer from 400 on is an ErrorBody; its `code` is for programs and does not
change. New fields may be added to every message.
"""


def document() -> dict[str, Any]:
    """The document, as JSON has it."""
    messages = {r.answer for r in ROUTES} | {r.body for r in ROUTES} | {ErrorBody}
    kinds = [kind for kind in messages if isinstance(kind, type) and kind is not dict]
    kinds.sort(key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobsup", "version": str(API_VERSION), "description": _ABOUT},
        "servers": [{"url": "http://jobsup/", "description": "by the Unix socket"}],
        "paths": paths,
        "components": {"schemas": {**schemas, "Job": _job_schema(), "Limits": _limits_schema()}},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.tells,
        "responses": {str(route.status): _answer(route), **_errors(route)},
    }
    parameters = [_of_path()] if "{ref}" in route.path else []
    parameters += [_of_query(parameter) for parameter in route.query]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = _body(route)
    return operation


def _of_path() -> dict[str, Any]:
    return {"name": "ref", "in": "path", "required": True, "schema": {"type": "string"}}


def _of_query(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.tells,
        "schema": dict(parameter.schema),
    }


def _body(route: Route) -> dict[str, Any]:
    assert route.body is not None
    if route.body is not dict:
        return {"content": {_JSON: {"schema": _named(route.body.__name__)}}}
    schema = _named("Limits" if route.path.endswith("/set") else "Job")
    content: dict[str, Any] = {_JSON: {"schema": schema}}
    if route.path == "/jobs/run":
        binary = {"type": "string", "contentMediaType": "application/octet-stream"}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"job": schema, "stdin": binary},
                "required": ["job", "stdin"],
            }
        }
    return {"required": True, "content": content}


def _answer(route: Route) -> dict[str, Any]:
    if isinstance(route.answer, str):
        kinds = list(KIND.values()) if route.answer == KIND[False] else [route.answer]
        content: dict[str, Any] = {kind: {"schema": {}} for kind in kinds}
    else:
        kind = route.media or _JSON
        content = {kind: {"schema": _named(route.answer.__name__)}}
    answer: dict[str, Any] = {"description": route.tells, "content": content}
    if route.answer == KIND[False]:
        answer["headers"] = {
            "Jobsup-Offset": _header("Where the body begins, as ?offset= counts."),
            "Jobsup-Attempt": _header("Of which run of the job it is."),
        }
    return answer


def _header(tells: str) -> dict[str, Any]:
    return {"description": tells, "schema": {"type": "integer"}}


def _errors(route: Route) -> dict[str, Any]:
    codes = [*_ALWAYS, *route.errors]
    codes += ["forbidden"] if route.root_only else []
    codes += ["too-large"] if route.body is not None else []
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(ERROR_STATUS[code], []).append(code)
    return {
        str(status): {
            "description": "code: " + ", ".join(by_status[status]),
            "content": {_JSON: {"schema": _named("ErrorBody")}},
        }
        for status in sorted(by_status)
    }


def _named(name: str) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(name=name)}


def _job_schema() -> dict[str, Any]:
    """What Request.from_plain takes; the values are read as the options of `jobsup run` are."""
    named = [field.name for field in dataclasses.fields(Spec)]
    named += [field.name for field in dataclasses.fields(Request) if field.name != "spec"]
    properties: dict[str, Any] = {name: {} for name in named}
    text = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"base64": {"type": "string"}},
                "required": ["base64"],
            },
        ]
    }
    properties["argv"] = {"type": "array", "items": text, "minItems": 1}
    return {
        "type": "object",
        "description": "The options of `jobsup start`, by the names that Python has for them.",
        "properties": properties,
        "required": ["argv"],
        "additionalProperties": False,
    }


def _limits_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Options of a Job that limit it.",
        "minProperties": 1,
    }


def text() -> str:
    """The document as it is checked in."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
