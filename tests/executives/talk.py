"""The board with a model that says what a test has it say, and real speech."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import ClientResponse

from handlers.executives.service import Executives
from sovren_edge.handler import Database, Edge, Metrics
from tests.executives.board import FOUNDER, Board, Hands, Told, bearer, open_board
from tests.executives.chat_server import ChatServer

INTERACT = "/executives/interact"


@dataclass(frozen=True)
class Talk:
    """The board, and the model that it asks."""

    board: Board
    chat: ChatServer
    edge: Edge

    async def ask(self, message: str = "How are we?", subject: str = FOUNDER, **members: object) -> Told:
        """Ask the CEO; return the answer, or the error."""
        return await self.board.post(INTERACT, question(message, **members), subject)

    async def send(self, body: object, path: str = INTERACT, **headers: str) -> tuple[int, Mapping[str, str], Told]:
        """Send something; return the answer's status, fields and JSON."""
        given = bearer(self.board.hands) | headers
        async with self.board.client.post(path, json=body, headers=given) as answer:
            return answer.status, answer.headers, await answer.json(content_type=None)

    @asynccontextmanager
    async def stream(self, body: object, path: str = INTERACT) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """Ask for the answer as it comes; yield its events."""
        given = bearer(self.board.hands) | {"Accept": "text/event-stream"}
        async with self.board.client.post(path, json=body, headers=given) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield events_of(answer)

    async def whole_stream(self, body: object, path: str = INTERACT) -> list[tuple[str, Any]]:
        """Return all events of an answer."""
        async with self.stream(body, path) as events:
            return [event async for event in events]


def question(message: str = "How are we?", **members: object) -> Told:
    """Return a question to the CEO."""
    return {"executiveId": "ceo", "message": message} | members


async def events_of(answer: ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Yield the events of a stream."""
    name = ""
    async for line in answer.content:
        if line.startswith(b"event: "):
            name = line[7:-1].decode()
        elif line.startswith(b"data: "):
            yield name, json.loads(line[6:])


@asynccontextmanager
async def talking(
    chat: ChatServer, edge: Edge, database: Database, hands: Hands, **settings: object
) -> AsyncIterator[Talk]:
    """Open the board with this model."""
    given = {"chat_url": chat.url, "probe_interval_s": 0.02} | settings
    handler = Executives.model_validate_json(json.dumps(given))
    edge = replace(edge, metrics=Metrics())
    async with open_board(handler, edge, database, hands) as board:
        yield Talk(board, chat, edge)
