"""A stranger's handler, installed as strangers install it, with a real database."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession
from pydantic import ValidationError

from sovren_edge.handler import Clock, Database, Edge, Handler, Metrics
from sovren_edge.handler.discovery import find_handlers
from sovren_edge.observe.registry import Source, render
from sovren_edge.secret import SecretSource
from sovren_edge.store.database import open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.handler.witness import Client, Serve, Witness
from tests.local_postgres import temporary_postgres

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SETTINGS = {"greeting": "Good day", "signing_key": "env:GREETER_SIGNING_KEY"}
SECRETS = SecretSource({"GREETER_SIGNING_KEY": "hush"})


@pytest.fixture
def greeter_class(greeter: None) -> type[Handler]:  # noqa: ARG001 - it makes the distribution known
    """Return the class as the program finds it."""
    found = find_handlers(["greeter"])["greeter"]
    assert isinstance(found, type)
    return found


@pytest.fixture
async def greeter_client(
    greeter_class: type[Handler], serve: Serve, witness: Witness, tmp_path: Path
) -> AsyncIterator[Client]:
    """Serve the greeter on a free port, its tables made."""
    handler = greeter_class.model_validate(SETTINGS, context={"secrets": SECRETS})
    assert handler.migrations is not None
    settings = DatabaseSettings()
    async with temporary_postgres() as url, ClientSession() as session:
        await migrate(url, settings.schema_name, [History("greeter", handler.migrations)])

        def open_it() -> AbstractAsyncContextManager[Database]:
            return open_database(url, settings)

        edge = Edge(
            name="greeter",
            log=witness.log,
            clock=Clock(now=lambda: NOON),
            http=session,
            metrics=Metrics(),
            open_database=open_it,
            doors={},
            state_dir=tmp_path,
        )
        async with handler.open(edge) as routes:
            yield await serve(routes)
            assert b"\ngreeter_greetings_total 2\n" in render([Source(edge.metrics.registry)])


async def test_the_greeter_serves(greeter_client: Client, witness: Witness) -> None:
    """It greets, remembers, lists, and refuses what it did not declare."""
    async with greeter_client.get("/greet/Ada", params={"times": 2}) as response:
        spoken = await response.json()
        assert spoken["lines"] == ["Good day, Ada!", "Good day, Ada!"]
        assert len(spoken["signature"]) == 64
    async with greeter_client.get("/greet/Ada", params={"times": 11}) as response:
        assert (response.status, (await response.json(content_type=None))["reason"]) == (400, "invalid_request")
    for text in ("Hello.", "Bonjour."):
        async with greeter_client.post("/greetings", json={"name": "Ada", "text": text}) as response:
            assert (await response.json())["said_at"] == "2026-01-02T12:00:00Z"
    async with greeter_client.post("/greetings", json={"name": "Ada", "text": "\0"}) as response:
        assert response.status == 400
    async with greeter_client.get("/greetings", params={"limit": 1}) as response:
        newest = {"id": 2, "name": "Ada", "text": "Bonjour.", "said_at": "2026-01-02T12:00:00Z"}
        assert await response.json() == [newest]
    async with greeter_client.get("/openapi.json") as response:
        assert (await response.json())["paths"].keys() == {"/greet/{name}", "/greetings"}
    assert witness.lines == []


def test_the_greeters_settings_are_judged(greeter_class: type[Handler]) -> None:
    """A value is no reference to a secret, a number is no text, a misspelt key is nothing."""
    with pytest.raises(ValidationError) as raised:
        greeter_class.model_validate(
            {"greeting": 3, "signing_key": "hush", "greting": "x"}, context={"secrets": SECRETS}
        )
    faults = {fault["loc"]: fault["msg"] for fault in raised.value.errors()}
    assert faults.keys() == {("greeting",), ("signing_key",), ("greting",)}
    assert "env:NAME" in faults["signing_key",]
