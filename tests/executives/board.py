"""The board on a free port, who asks it, and whom a test adds to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from aiohttp.test_utils import TestClient, TestServer

from handlers.executives.approvals import Approval, make_approval, write_approval
from handlers.executives.proposal import Proposal
from handlers.executives.roster import Executive
from sovren_edge.auth.tokens import AuthSettings, OneKey, Verifier, make_token
from sovren_edge.handler import Database, Edge, Handler
from sovren_edge.handler.application import build_application
from sovren_edge.secret import SecretSource
from sovren_edge.store.history import History
from sovren_edge.store.settings import DatabaseSettings
from tests.handler.witness import Client

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
FOUNDER = "founder"
SETTINGS = DatabaseSettings()
HISTORY = History("executives", "handlers.executives.migrations")
AUTH = AuthSettings.model_validate({"key": "env:KEY"}, context={"secrets": SecretSource({"KEY": "k" * 32})})

Told: TypeAlias = dict[str, Any]


@dataclass
class Hands:
    """A clock's hands, which a test moves."""

    at: datetime = NOON

    def now(self) -> datetime:
        """Tell the time."""
        return self.at

    def monotonic(self) -> float:
        """Tell the seconds."""
        return self.at.timestamp()

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self.at += by


def make_verifier(hands: Hands) -> Verifier:
    """Make what verifies tokens by this clock."""
    assert AUTH.key is not None
    return Verifier(AUTH, OneKey(AUTH.key.get_secret_value()), hands.monotonic)


def bearer(hands: Hands, subject: str = FOUNDER, scope: str = "") -> dict[str, str]:
    """Return what names a caller for the next hour."""
    token = make_token(AUTH, subject=subject, scope=scope, ttl_s=3600, now=hands.monotonic())
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Board:
    """Where executives are asked; `get` and `post` return an answer's JSON, also an error's."""

    client: Client
    database: Database
    hands: Hands

    async def get(self, path: str, subject: str = FOUNDER, **query: str | int) -> Told:
        """Ask for something."""
        async with self.client.get(path, params=query, headers=bearer(self.hands, subject)) as answer:
            told: Told = await answer.json(content_type=None)
            return told

    async def post(self, path: str, body: object, subject: str = FOUNDER) -> Told:
        """Send something."""
        async with self.client.post(path, json=body, headers=bearer(self.hands, subject)) as answer:
            told: Told = await answer.json(content_type=None)
            return told


@asynccontextmanager
async def open_board(handler: Handler, edge: Edge, database: Database, hands: Hands) -> AsyncIterator[Board]:
    """Serve a handler on a free port, as the program does."""
    async with handler.open(edge) as routes:
        application = build_application(
            routes, title="Board", version="1", log=edge.log, observe=lambda *_: None, body_limit=handler.body_limit
        )
        async with TestClient(TestServer(application, handler_cancellation=True)) as client:
            yield Board(client, database, hands)


_NAME = "INSERT INTO available_names (name) VALUES ($1) ON CONFLICT DO NOTHING"
_HIRE = """
INSERT INTO subscriber_executives
    (subscriber_id, executive_id, position, name, role, department, status, capabilities, voice, persona)
VALUES ($1, $2, $3, $4, $5, 'A department', $6, '{listening}', 'sage', 'You listen.')
"""


async def hire(
    database: Database,
    subscriber: str,
    executive_id: str,
    *,
    name: str = "",
    role: str = "",
    position: int = 1,
    status: str = "active",
) -> None:
    """Add an executive to somebody's board; name and role are like the id, where none are given."""
    name = name or executive_id.title()
    await database.execute(_NAME, name)
    await database.execute(_HIRE, subscriber, executive_id, position, name, role or executive_id.upper(), status)


async def propose(
    database: Database, subscriber: str, executive_id: str, proposal: Proposal, now: datetime
) -> Approval:
    """Have something wait for a subscriber's decision."""
    named = "SELECT name FROM subscriber_executives WHERE subscriber_id = $1 AND executive_id = $2"
    name = await database.fetchval(named, subscriber, executive_id) or executive_id
    approval = make_approval(Executive(executive_id, name, "", "", "active", (), "", ""), proposal, now)
    async with database.transaction() as connection:
        await write_approval(connection, subscriber, approval)
    return approval
