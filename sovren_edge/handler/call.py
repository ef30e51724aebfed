"""Owns one call of a route's function: a request becomes arguments, a result becomes an answer.

Must not know errors' answers, logs or metrics: the guard around it does.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from sovren_edge.handler.declaration import Body, Declaration, Values
from sovren_edge.handler.invalid import faults, invalid, name
from sovren_edge.handler.route import Route

_READING: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_ANY: Final = "*"


async def call(route: Route, request: web.Request) -> web.StreamResponse:
    """Answer one request; EdgeError names every fault of its path, query, headers and body."""
    arguments = await _arguments(route.declaration, request)
    return _response(route.declaration, request, await route.function(**arguments))


async def _arguments(declaration: Declaration, request: web.Request) -> dict[str, object]:
    arguments: dict[str, object] = {}
    found: list[str] = []

    def take(place: str, read: Callable[[], dict[str, object]]) -> None:
        try:
            arguments.update(read())
        except ValidationError as error:
            found.extend(faults(place, error))

    def take_texts(place: str, values: Values, given: Mapping[str, Sequence[str]]) -> None:
        once = {key: texts for key, texts in given.items() if key not in values.many}
        found.extend(
            f"{name((place, key))}: Value should be given once, not {len(texts)} times"
            for key, texts in once.items()
            if len(texts) > 1
        )
        take(place, lambda: values.read({**given, **{key: texts[0] for key, texts in once.items()}}))

    take("path", lambda: declaration.path.read(request.match_info))
    if declaration.raw_query is None:
        take_texts("query", declaration.query, {key: request.query.getall(key) for key in request.query})
    else:
        arguments[declaration.raw_query] = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
    headers = {key: request.headers.getall(key) for key in declaration.headers.names if key in request.headers}
    take_texts("header", declaration.headers, headers)
    if (body := declaration.body) is not None:
        sent = await _body_bytes(request)
        take("body", lambda: _body_argument(body, sent))
    if found:
        raise invalid(found)
    if declaration.request is not None:
        arguments[declaration.request] = request
    return arguments


async def _body_bytes(request: web.Request) -> bytes:
    try:
        return await request.read()
    except (web.RequestPayloadError, ConnectionError):
        raise invalid(["body: Input should have the framing and encoding that its head announces"]) from None


def _body_argument(body: Body, sent: bytes) -> dict[str, object]:
    if not sent and not body.required:
        return {}
    return {body.name: body.model.model_validate_json(sent)}


def _response(declaration: Declaration, request: web.Request, result: Any) -> web.StreamResponse:  # noqa: ANN401 - whatever the function declared
    if declaration.answer == "empty":
        return web.Response(status=204)
    if declaration.may_stream and isinstance(result, web.StreamResponse):
        return result
    if declaration.answer == "stream":
        raise TypeError(f"the function declared a response and returned {type(result).__name__}")
    # A result that is not what was declared is a fault of ours, not an answer with a warning.
    body = declaration.answer.dump_json(result, by_alias=True, warnings="error")
    response = web.Response(body=body, content_type="application/json")
    return _unless_known(request, response, body) if request.method in _READING else response


def _unless_known(request: web.Request, response: web.Response, body: bytes) -> web.Response:
    """Give an answer its ETag, for callers that ask again and again; leave it out where its caller has it already."""
    known = {etag.value for etag in request.if_none_match or ()}
    etag = blake2b(body, digest_size=16).hexdigest()
    if not known.isdisjoint({etag, _ANY}):
        response = web.Response(status=304)
    response.etag = etag
    # It may be one caller's own: nobody else keeps it, and who does asks whether it is still true.
    response.headers["Cache-Control"] = "private, no-cache"
    return response
