"""Owns how requests to a handler continue their caller's trace, and how the handler's own calls continue theirs.

Must not know routes, nor where spans go. Nothing of a request but its id, method and route template is recorded.
"""

from contextlib import AbstractContextManager
from http import HTTPStatus

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs, web

from sovren_edge.observe.trace_context import TRACEPARENT, TRACESTATE
from sovren_edge.observe.tracing import Span, Tracer, Value, serving, step, told


def serving_request(request: web.Request, template: str, tracer: Tracer | None) -> AbstractContextManager[Span | None]:
    """Serve a request as a part of its trace; what is recorded of it is yielded, and ends with it."""
    known = request.method in hdrs.METH_ALL
    headers = request.headers
    name = f"{request.method if known else 'HTTP'} {template}".rstrip()
    return serving(tracer, headers.getall(TRACEPARENT, ()), headers.getall(TRACESTATE, ()), name, {
        "http.request.method": request.method if known else "_OTHER", "http.route": template,
        "url.scheme": request.scheme, "client.address": request.remote or "",
    })  # fmt: skip


def describe_end(span: Span, request_id: str, status: int) -> None:
    """Say how a request ended."""
    span.attributes |= {"sovren.request_id": request_id, "http.response.status_code": status}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.error = str(status)


async def continue_trace(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """Send a request as a part of the trace at hand, unless it names one itself; see aiohttp's client middlewares."""
    if TRACEPARENT in request.headers:
        return await send(request)
    described: dict[str, Value] = {
        "http.request.method": request.method, "server.address": request.url.host or "",
        "server.port": request.url.port or 0,
    }  # fmt: skip
    with step(request.method, "client", described) as span:
        request.headers.update(told(span))
        response = await send(request)
        if span is not None:
            span.attributes["http.response.status_code"] = response.status
            span.error = str(response.status) if response.status >= HTTPStatus.BAD_REQUEST else ""
        return response
