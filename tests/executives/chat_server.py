"""A small server of OpenAI's `/chat/completions` that says what a test has it say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

MODEL = "scripted"


@dataclass(frozen=True)
class Pause:
    """Say nothing until the test goes on."""

    until: asyncio.Event


@dataclass(frozen=True)
class Break:
    """End the connection here."""


Part: TypeAlias = bytes | Pause | Break
Script: TypeAlias = Sequence[Part]


def chunk(**members: object) -> bytes:
    """Return one event of a stream."""
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "model": MODEL} | members) + b"\n\n"


def said(text: str | None) -> bytes:
    """Return more of an answer."""
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


def called(index: int, name: str | None, arguments: str) -> bytes:
    """Return more of a call of a function."""
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return chunk(choices=[{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}])


def usage(prompt: int, completion: int) -> bytes:
    """Return what the answer has cost."""
    return chunk(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion})


STOP = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


def whole(*texts: str) -> Script:
    """Return an answer as servers give it, token by token."""
    return [*map(said, texts), STOP, usage(11, len(texts)), DONE]


def words(text: str) -> Script:
    """Return an answer that comes word by word."""
    return whole(*(f"{word} " for word in text.split(" ")))


@dataclass
class ChatServer:
    """What it says next (the last script is said again and again), and what it was asked.

    `gone` counts the callers that left before their answer was whole.
    """

    url: str = ""
    scripts: list[Script] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    models: Callable[[], web.Response] = lambda: web.json_response({"object": "list", "data": [{"id": MODEL}]})
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    probes: int = 0
    gone: int = 0
    connections: set[int] = field(default_factory=set)

    def say(self, *scripts: Script) -> None:
        """Have these said, one after the other."""
        self.scripts = list(scripts)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.asked.append(orjson.loads(await request.read()))
        self.authorizations.append(request.headers.get("Authorization"))
        self.connections.add(id(request.transport))
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers, text="secret reason")
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | self.headers)
        await response.prepare(request)
        try:
            for part in script:
                await self._play(part, request, response)
        except (ConnectionError, asyncio.CancelledError):
            self.gone += 1
            raise
        return response

    async def list_models(self, _request: web.Request) -> web.Response:
        """Tell the models."""
        self.probes += 1
        return self.models()

    async def _play(self, part: Part, request: web.Request, response: web.StreamResponse) -> None:
        match part:
            case bytes():
                await response.write(part)
            case Pause():
                await part.until.wait()
            case Break():
                assert request.transport is not None
                request.transport.abort()


@asynccontextmanager
async def chat_server(*scripts: Script) -> AsyncIterator[ChatServer]:
    """Serve on a free port until the block ends."""
    server = ChatServer()
    server.say(*(scripts or [words("Good morning. All is well here.")]))
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.complete)
    application.router.add_get("/v1/models", server.list_models)
    async with TestServer(application, handler_cancellation=True) as running:
        server.url = str(running.make_url("/v1"))
        yield server


def texts_of(asked: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return who said what in a request."""
    return [(message["role"], message["content"]) for message in asked["messages"]]
