"""Real servers as endpoints: each records the requests as it understood them, whole ones only, and answers 200."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from aiohttp import web
from uvicorn.server import ServerState


class Recorded(NamedTuple):
    """A whole request, as a server understood it."""

    method: str
    target: str
    host: str
    body: bytes


Take = Callable[[], Awaitable[list[Recorded]]]
Recorder = tuple[int, Take]
Message = MutableMapping[str, Any]


@asynccontextmanager
async def serve(make: Callable[[], asyncio.Protocol], recorded: list[Recorded]) -> AsyncIterator[Recorder]:
    """Serve a protocol on a free port."""

    async def take() -> list[Recorded]:
        taken, recorded[:] = list(recorded), []
        return taken

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], take
    finally:
        server.close()


@asynccontextmanager
async def aiohttp() -> AsyncIterator[Recorder]:
    """Serve with aiohttp's own server, below its routes."""
    recorded: list[Recorded] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        recorded.append(Recorded(request.method, request.raw_path, request.headers["Host"], body))
        return web.Response(text="ok")

    server = web.Server(handle)
    try:
        async with serve(server, recorded) as made:
            yield made
    finally:
        await server.shutdown(1)


@asynccontextmanager
async def uvicorn_with(parser: str) -> AsyncIterator[Recorder]:
    """Serve with uvicorn, whose parser is `h11` or `httptools`."""
    recorded: list[Recorded] = []

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        host = dict(scope["headers"])[b"host"]
        recorded.append(Recorded(scope["method"], target.decode(), host.decode(), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=parser, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()

    def make() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

    async with serve(make, recorded) as made:
        yield made


@asynccontextmanager
async def node() -> AsyncIterator[Recorder]:
    """Serve with node; a machine without it skips this one and says so."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: nobody compares with its parser")
    script = Path(__file__).with_name("recorder.js")
    process = await asyncio.create_subprocess_exec(program, script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async def take() -> list[Recorded]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /recorded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        taken = json.loads(answer[answer.index(b"[") : answer.rindex(b"]") + 1])
        return [Recorded(method, target, host, bytes.fromhex(body)) for method, target, host, body in taken]

    try:
        yield port, take
    finally:
        process.kill()
        await process.wait()


RECORDERS = {
    "aiohttp": aiohttp,
    "uvicorn-h11": lambda: uvicorn_with("h11"),
    "uvicorn-httptools": lambda: uvicorn_with("httptools"),
    "node": node,
}
