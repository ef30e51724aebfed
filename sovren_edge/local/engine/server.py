"""Owns the engine's port: routes, streamed answers, errors as JSON.

Must not know how speech is made. Nothing of an answer is sent before its first sentence is spoken, so every refusal
still has its status.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.local.engine.audio import Samples, encoder_for
from sovren_edge.local.engine.request import VOICES, SpeechRequest, read_request, refusal
from sovren_edge.local.engine.speaker import Speaker

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def open_server(speaker: Speaker, host: str, port: int) -> AsyncIterator[None]:
    """Serve this speaker until the block ends; OSError if the address cannot be bound."""
    # A caller that leaves cancels its handler, and with it the sentences that nobody will hear.
    runner = web.AppRunner(application(speaker), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def application(speaker: Speaker) -> web.Application:
    """Return the engine's routes."""

    async def speak(request: web.Request) -> web.StreamResponse:
        wanted = read_request(await request.read())
        async with aclosing(speaker.speak(wanted.input, wanted.speed)) as spoken:
            return await _answer(request, wanted, spoken)

    async def voices(_: web.Request) -> web.Response:
        return web.json_response({"voices": list(VOICES)})

    async def health(_: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"ok"}', content_type="application/json")

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({"sentences_spoken": speaker.sentences_spoken})

    app = web.Application(middlewares=[_errors_as_json])
    app.router.add_post("/v1/audio/speech", speak)
    app.router.add_get("/v1/audio/voices", voices)
    app.router.add_get("/health", health)
    app.router.add_get("/stats", stats)
    return app


async def _answer(request: web.Request, wanted: SpeechRequest, spoken: AsyncIterator[Samples]) -> web.StreamResponse:
    first = await anext(spoken, None)
    if first is None:
        raise refusal("unspeakable_input", "input: there is nothing in it that can be spoken")
    encoder = encoder_for(wanted.response_format)
    response = web.StreamResponse(headers={"Content-Type": encoder.content_type})
    await response.prepare(request)
    await response.write(await asyncio.to_thread(encoder.encode, first))
    async for samples in spoken:
        await response.write(await asyncio.to_thread(encoder.encode, samples))
    await response.write_eof(encoder.finish())
    return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except EdgeError as error:
        return _problem_response(error.problem)
    except web.HTTPException as error:
        reason = HTTPStatus(error.status).name.lower()
        response = _problem_response(Problem(error.status, reason, f"{error.reason}: {request.path}", Side.CALLER))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _problem_response(problem: Problem) -> web.Response:
    return web.Response(status=problem.status, headers=dict(problem.headers), body=problem.body())
