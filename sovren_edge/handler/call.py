"""Owns one call of a route's function: a request becomes arguments, a result becomes an answer.

Must not know errors' answers, logs or metrics: the guard around it does.
"""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from sovren_edge.handler.declaration import Answer, Body, Declaration
from sovren_edge.handler.invalid import faults, invalid, name
from sovren_edge.handler.route import Route


async def call(route: Route, request: web.Request) -> web.StreamResponse:
    """Answer one request; EdgeError names every fault of its path, query and body."""
    arguments = await _arguments(route.declaration, request)
    return _response(route.declaration.answer, await route.function(**arguments))


async def _arguments(declaration: Declaration, request: web.Request) -> dict[str, object]:
    texts, found = _query_texts(declaration, request) if declaration.raw_query is None else ({}, [])
    arguments: dict[str, object] = {}

    def take(place: str, read: Callable[[], dict[str, object]]) -> None:
        try:
            arguments.update(read())
        except ValidationError as error:
            found.extend(faults(place, error))

    take("path", lambda: declaration.path.read(request.match_info))
    if declaration.raw_query is None:
        take("query", lambda: declaration.query.read(texts))
    else:
        arguments[declaration.raw_query] = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
    if (body := declaration.body) is not None:
        sent = await _body_bytes(request)
        take("body", lambda: _body_argument(body, sent))
    if found:
        raise invalid(found)
    if declaration.request is not None:
        arguments[declaration.request] = request
    return arguments


def _query_texts(declaration: Declaration, request: web.Request) -> tuple[dict[str, object], list[str]]:
    texts: dict[str, object] = {}
    found: list[str] = []
    for key in dict.fromkeys(request.query):
        given = request.query.getall(key)
        texts[key] = given if key in declaration.query.many else given[0]
        if len(given) > 1 and key not in declaration.query.many:
            found.append(f"{name(('query', key))}: Value should be given once, not {len(given)} times")
    return texts, found


async def _body_bytes(request: web.Request) -> bytes:
    try:
        return await request.read()
    except (web.RequestPayloadError, ConnectionError):
        raise invalid(["body: Input should have the framing and encoding that its head announces"]) from None


def _body_argument(body: Body, sent: bytes) -> dict[str, object]:
    if not sent and not body.required:
        return {}
    return {body.name: body.model.model_validate_json(sent)}


def _response(answer: Answer, result: Any) -> web.StreamResponse:  # noqa: ANN401 - whatever the function declared
    if answer == "empty":
        return web.Response(status=204)
    if answer == "stream":
        if not isinstance(result, web.StreamResponse):
            raise TypeError(f"the function declared a response and returned {type(result).__name__}")
        return result
    # A result that is not what was declared is a fault of ours, not an answer with a warning.
    return web.Response(body=answer.dump_json(result, by_alias=True, warnings="error"), content_type="application/json")
