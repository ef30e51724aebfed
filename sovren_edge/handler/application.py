"""Owns the making of an aiohttp application from a handler's routes.

Must not know the port's own paths' answers (/health, /ready, /metrics): the listener stands before it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler as Answer
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Side, StartupError
from sovren_edge.handler.call import call
from sovren_edge.handler.contract import Handler
from sovren_edge.handler.guard import Observe, guard, meet_expectation, prepare
from sovren_edge.handler.openapi import describe
from sovren_edge.handler.page import document_response, page_response
from sovren_edge.handler.route import Route, Routes
from sovren_edge.observe.tracing import Tracer

_OWN_PATHS = frozenset({"/health", "/ready", "/metrics", "/openapi.json", "/docs"})


def build_application(
    routes: Routes,
    *,
    title: str,
    version: str,
    log: FilteringBoundLogger,
    observe: Observe,
    description: str = "",
    moved: Mapping[str, str] = MappingProxyType({}),
    body_limit: int = Handler.body_limit,
    tracer: Tracer | None = None,
) -> web.Application:
    """Make what serves the routes, /openapi.json and /docs; StartupError names clashing routes.

    `body_limit` is in bytes; `moved` names paths that were here once, with all below them, and what is said of each.
    `observe` is called once for each request, when its answer is known; without a `tracer` no spans are recorded.
    """
    if faults := "; ".join(_clashes(routes)):
        raise StartupError(f"{title}: {faults}")
    application = web.Application(middlewares=[guard(log, observe, tracer)], client_max_size=body_limit)
    application.on_response_prepare.append(prepare)
    for route in routes:
        _add(application, route.method, route.path, partial(call, route))
    for path, where in moved.items():
        application.router.add_route(hdrs.METH_ANY, path + "{rest:(/.*)?}", partial(_moved, where))
    document = describe(routes, title=title, version=version, description=description)
    _add(application, hdrs.METH_GET, "/openapi.json", document_response(document))
    _add(application, hdrs.METH_GET, "/docs", page_response(document))
    return application


def _add(application: web.Application, method: str, path: str, answer: Answer) -> None:
    resource = application.router.add_resource(path)
    resource.add_route(method, answer, expect_handler=meet_expectation)
    if method == hdrs.METH_GET:
        resource.add_route(hdrs.METH_HEAD, answer, expect_handler=meet_expectation)


async def _moved(where: str, _: web.Request) -> web.StreamResponse:
    raise EdgeError(404, "moved", where, side=Side.CALLER)


def _clashes(routes: Routes) -> Iterator[str]:
    first: dict[tuple[str, str], Route] = {}
    for route in routes:
        if route.path in _OWN_PATHS:
            yield f"the path {route.path} belongs to the port itself"
        other = first.setdefault((route.method, re.sub(r"\{\w+\}", "{}", route.path)), route)
        if other is not route:
            yield f"two routes answer {route.method}: {other.path} and {route.path}"
