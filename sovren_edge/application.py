"""Owns serving connections by an aiohttp application: own pages first, who may call, and every error in our form.

Must not know what the application does.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from sovren_edge.acceptor import Serve
from sovren_edge.auth.networks import Networks
from sovren_edge.errors import Problem, Side
from sovren_edge.http.answer import Answer, problem_answer
from sovren_edge.listener import OwnPages
from sovren_edge.relay.problems import ADDRESS_NOT_ALLOWED

SHUTDOWN_S = 1.0
REFRESHED = frozenset({"/metrics", "/status"})


class _RequestHandler(web.RequestHandler):
    """aiohttp's connection, but a fault in the HTTP message is answered in JSON, and the caller is who we say."""

    __slots__ = ("_address", "_gone")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        address: str,
        gone: Callable[[], None],
        decompress: bool,
    ) -> None:
        super().__init__(manager, loop=loop, auto_decompress=decompress)
        self._address = address
        self._gone = gone

    @property
    def peername(self) -> str:
        """Return the caller's address, which a proxy in front of us may have announced."""
        return self._address

    def connection_lost(self, exc: BaseException | None) -> None:
        """Say so; see aiohttp.web.RequestHandler."""
        super().connection_lost(exc)
        self._gone()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text is none of ours
    ) -> web.StreamResponse:
        """Answer, and close the connection; see aiohttp.web.RequestHandler."""
        if isinstance(exc, BadHttpMessage):
            problem = Problem(status, "malformed_request", "The request is not valid HTTP.", Side.CALLER)
        else:
            problem = Problem(status, "internal_error", "The request could not be served.")
        response = to_response(problem_answer(problem))
        response.headers["X-Request-Id"] = uuid.uuid4().hex
        response.force_close()
        return response


def to_response(answer: Answer) -> web.Response:
    """Translate an answer of ours into aiohttp's."""
    return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)


@dataclass(slots=True)
class Open:
    """How many requests an application is answering, which a stop waits for; while `closing`, each is a last one."""

    count: int = 0
    closing: bool = False


Refresh = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands before an application: who may call, and the listener's own pages; it counts who is inside.

    `refresh` is awaited before a page that tells more than the process itself knows.
    """

    pages: OwnPages
    allow: Networks
    inside: Open
    refresh: Refresh | None = None

    def open(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Return the middleware; it comes before all others."""

        @web.middleware
        async def gate(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            peer = request.remote or ""
            if not self.allow.contains(peer):
                return to_response(problem_answer(ADDRESS_NOT_ALLOWED))
            if self.refresh is not None and request.path in REFRESHED and self.pages.trusted.contains(peer):
                await self.refresh()
            page = self.pages.answer(request.method, request.path, peer)
            if page is not None:
                return to_response(page)
            self.inside.count += 1
            try:
                return await handler(request)
            finally:
                self.inside.count -= 1

        return gate

    async def end_connection(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Let an answer be its connection's last, once the process is about to end."""
        if self.inside.closing:
            response.force_close()
            response.headers["Connection"] = "close"


@asynccontextmanager
async def serve_application(app: web.Application, gate: Gate, *, decompress: bool = True) -> AsyncIterator[Serve]:
    """Yield what serves a connection, until the block ends; then requests have a second to finish.

    `decompress` says whether bodies are read as what they were before they were compressed.
    """
    app.middlewares.insert(0, gate.open())
    app.on_response_prepare.append(gate.end_connection)
    # A caller that leaves ends the work that is done for it.
    runner = web.AppRunner(app, handle_signals=False, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    loop = asyncio.get_running_loop()
    manager = runner.server
    if manager is None:
        raise RuntimeError("an application that is set up has a server")

    def serve(address: str, gone: Callable[[], None]) -> asyncio.Protocol:
        return _RequestHandler(manager, loop=loop, address=address, gone=gone, decompress=decompress)

    try:
        yield serve
    finally:
        await runner.cleanup()
