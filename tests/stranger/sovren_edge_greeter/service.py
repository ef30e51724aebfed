"""The greeter itself: its settings, its life, and its routes."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from sovren_edge.handler import Database, Edge, Handler, Routes, Secret, route
from sovren_edge_greeter.models import Greeting, Limit, NewGreeting, Spoken, Text, Times


class Greeter(Handler):
    """Greets people, and remembers greetings."""

    migrations: ClassVar[str | None] = "sovren_edge_greeter.migrations"

    greeting: str = "Hello"
    signing_key: Secret

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        """Serve for as long as the block runs; what it opened is closed at its end."""
        greeted = edge.metrics.counter("greeter_greetings_total", "Greetings said.")

        async def greet(name: Text, times: Times = 1) -> Spoken:
            """Greet someone."""
            greeted.inc(times)
            lines = [f"{self.greeting}, {name}!"] * times
            return Spoken(lines=lines, signature=self._signature("\n".join(lines)))

        async with edge.database() as database:
            book = GuestBook(database, edge)
            yield [
                route.get("/greet/{name}", greet),
                route.post("/greetings", book.remember),
                route.get("/greetings", book.recent),
            ]

    def _signature(self, text: str) -> str:
        key = self.signing_key.get_secret_value()
        return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


class GuestBook:
    """The greetings in the database."""

    def __init__(self, database: Database, edge: Edge) -> None:
        self._database = database
        self._edge = edge

    async def remember(self, greeting: NewGreeting) -> Greeting:
        """Remember a greeting."""
        said_at = self._edge.clock.now()
        insert = "INSERT INTO greetings (name, text, said_at) VALUES ($1, $2, $3) RETURNING id"
        new_id = await self._database.fetchval(insert, greeting.name, greeting.text, said_at)
        return Greeting(id=new_id, said_at=said_at, name=greeting.name, text=greeting.text)

    async def recent(self, limit: Limit = 20) -> list[Greeting]:
        """List the newest greetings."""
        query = "SELECT id, name, text, said_at FROM greetings ORDER BY id DESC LIMIT $1"
        return [Greeting.model_validate(dict(row)) for row in await self._database.fetch(query, limit)]
