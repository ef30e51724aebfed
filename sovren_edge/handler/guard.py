"""Owns what surrounds every request to a handler: its id, its trace, the one form of errors, and how it ended.

Must not know routes or what they answer. Nothing of a request but its id, method and route template is logged.
"""

import re
import time
import uuid
from collections.abc import Callable
from typing import Final, TypeAlias

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler as Next
from aiohttp.typedefs import Middleware
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.handler.tracing import describe_end, serving_request
from sovren_edge.observe.tracing import Tracer

Observe: TypeAlias = Callable[[web.Request, str, int, float], None]
"""Called once at the end of each request: the request, its route's template ("" if it has none), status, seconds."""

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_BEGUN: Final = web.RequestKey("begun", web.StreamResponse)
_KEPT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CALLER_LEFT = 499
_INTERNAL = Problem(500, "internal_error", "The request met an internal fault; its request id finds it in the logs.")


def guard(log: FilteringBoundLogger, observe: Observe, tracer: Tracer | None = None) -> Middleware:
    """Make the outermost middleware of an application; without a tracer no spans are recorded."""

    @web.middleware
    async def guarded(request: web.Request, handler: Next) -> web.StreamResponse:
        started = time.monotonic()
        status = _CALLER_LEFT
        with serving_request(request, route_template(request), tracer) as span:
            try:
                response, status = await _answered(request, handler, log)
            except web.HTTPException as redirect:
                status = redirect.status
                raise
            else:
                return response
            finally:
                observe(request, route_template(request), status, time.monotonic() - started)
                if span is not None:
                    describe_end(span, request_id(request), status)

    return guarded


async def meet_expectation(request: web.Request) -> None:
    """Tell the caller to send its body; any other expectation is refused in `guard`, where errors have their form."""
    if request.version == HttpVersion11 and _expectation(request) == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _check_expectation(request: web.Request) -> None:
    if _expectation(request) not in {"", "100-continue"}:
        raise web.HTTPExpectationFailed


def _expectation(request: web.Request) -> str:
    return request.headers.get(hdrs.EXPECT, "").lower()


async def prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Finish an answer's head; an `on_response_prepare` signal, so that no answer escapes it."""
    response.headers["X-Request-Id"] = request_id(request)
    response.headers["Server"] = "sovren-edge"
    if request.method == hdrs.METH_HEAD:
        # What a function streams to HEAD is dropped here: aiohttp leaves out the body of whole answers alone.
        request.writer.length = 0
    request[_BEGUN] = response


def route_template(request: web.Request) -> str:
    """Return the path template of the request's route, "" if none matched: never the caller's bytes."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def request_id(request: web.Request) -> str:
    """Return the request's id: the caller's, if it is harmless, otherwise one made at the first call."""
    if _REQUEST_ID not in request:
        given = request.headers.get("X-Request-Id", "")
        request[_REQUEST_ID] = given if _KEPT_ID.fullmatch(given) else uuid.uuid4().hex
    return request[_REQUEST_ID]


async def _answered(request: web.Request, answer: Next, log: FilteringBoundLogger) -> tuple[web.StreamResponse, int]:
    """Return an answer and the status to count, which differ only for an answer that broke after its head."""
    headers: dict[str, str] = {}
    try:
        _check_expectation(request)
        response = await answer(request)
    except EdgeError as error:
        problem = error.problem
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        problem, headers = _http_problem(request, error), _kept_headers(error)
    except Exception as error:
        if isinstance(error, ConnectionError) and _BEGUN in request and _has_left(request):
            return request[_BEGUN], _CALLER_LEFT
        log.exception(
            "request_failed", request_id=request_id(request), method=request.method, route=route_template(request)
        )
        problem = _INTERNAL
    else:
        return response, response.status
    if _BEGUN in request:
        return _broken(request), problem.status
    return _problem_response(problem, request_id(request), headers), problem.status


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _broken(request: web.Request) -> web.StreamResponse:
    """End a begun answer as broken, so that its caller does not take it for whole."""
    if request.transport is not None:
        request.transport.abort()
    return request[_BEGUN]


def _problem_response(problem: Problem, name: str, headers: dict[str, str]) -> web.Response:
    return web.Response(status=problem.status, body=problem.body(name), headers={**headers, **dict(problem.headers)})


def _http_problem(request: web.Request, error: web.HTTPException) -> Problem:
    match error:
        case web.HTTPNotFound():
            reason, detail = "not_found", "Nothing is served at this path."
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            reason, detail = "method_not_allowed", f"This path does not answer {request.method}, but {allowed}."
        case web.HTTPRequestEntityTooLarge():
            reason, detail = "body_too_large", f"The body is larger than {request.client_max_size} bytes."
        case _:
            reason, detail = f"http_{error.status}", error.reason
    side = Side.CALLER if error.status < web.HTTPInternalServerError.status_code else Side.EDGE
    return Problem(error.status, reason, detail, side)


def _kept_headers(error: web.HTTPException) -> dict[str, str]:
    """Return what an error's head says beside its body: `Allow`, `WWW-Authenticate` and the like."""
    return {name: value for name, value in error.headers.items() if not name.lower().startswith("content-")}
