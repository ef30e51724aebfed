"""What a handler is, and what the program hands to it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession
from pydantic import HttpUrl, ValidationError

from sovren_edge.handler import Clock, Database, Edge, Handler, Metrics, Routes, StartupError, route
from sovren_edge.store.database import open_database
from sovren_edge.store.settings import DatabaseSettings
from tests.handler.witness import Witness


class Executives(Handler):
    """A handler as short as they come."""

    chat_url: HttpUrl
    speech: str = "tts-master"

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        """Serve one route."""

        async def list_executives() -> list[str]:
            """List them."""
            return [edge.url(self.speech)]

        async with edge.database():
            yield [route.get("/executives/list", list_executives)]


@pytest.fixture
async def edge(witness: Witness, tmp_path: Path) -> AsyncIterator[Edge]:
    """Return an edge without a database."""
    async with ClientSession() as session:
        yield Edge(
            name="executives",
            log=witness.log,
            clock=Clock(),
            http=session,
            metrics=Metrics(),
            open_database=None,
            doors={"tts-master": "http://127.0.0.1:8200", "voila": "http://10.15.38.57:8000"},
            state_dir=tmp_path,
        )


def test_settings_are_typed_and_frozen() -> None:
    """A faulty one is refused with its name; nothing is guessed and nothing is ignored."""
    executives = Executives.model_validate({"chat_url": "http://10.15.38.1:8000/v1"})
    assert (str(executives.chat_url), executives.speech) == ("http://10.15.38.1:8000/v1", "tts-master")
    with pytest.raises(ValidationError, match="frozen"):
        executives.speech = "voila"  # type: ignore[misc]
    with pytest.raises(ValidationError) as raised:
        Executives.model_validate({"chat_url": "nowhere", "speech": 3, "spech": "x"})
    assert {fault["loc"] for fault in raised.value.errors()} == {("chat_url",), ("speech",), ("spech",)}


def test_a_handler_without_a_life_is_none() -> None:
    """`open` is what makes it one."""
    with pytest.raises(TypeError, match="open"):
        Handler()  # type: ignore[abstract]


async def test_services_have_urls(edge: Edge) -> None:
    """A service is named, never addressed."""
    assert edge.url("tts-master") == "http://127.0.0.1:8200"
    with pytest.raises(LookupError, match="'tts'; known are: tts-master, voila"):
        edge.url("tts")
    with pytest.raises(LookupError, match="known are: none"):
        replace(edge, doors={}).url("tts")


async def test_a_listener_has_a_folder_of_its_own(edge: Edge, tmp_path: Path) -> None:
    """It is there, closed to others, and the same whenever it is asked for."""
    own = edge.directory()
    assert own == tmp_path / "handlers" / "executives"
    assert own.stat().st_mode & 0o777 == 0o700
    assert edge.directory() == own


async def test_a_missing_database_is_told_by_the_listeners_name(edge: Edge) -> None:
    """A handler that needs one cannot be opened without."""
    handler = Executives.model_validate({"chat_url": "http://localhost"})
    with pytest.raises(StartupError, match=r"listener executives needs a database, .* \(database.url\)"):
        async with handler.open(edge):
            pass


async def test_a_database_that_is_away_stops_no_handler(edge: Edge) -> None:
    """It opens, and its database says that it is not ready."""

    def open_it() -> AbstractAsyncContextManager[Database]:
        return open_database("postgresql://127.0.0.1:1/none", DatabaseSettings())

    edge = replace(edge, open_database=open_it)
    handler = Executives.model_validate({"chat_url": "http://localhost"})
    async with handler.open(edge) as routes, edge.database() as database:
        assert [each.path for each in routes] == ["/executives/list"]
        assert await routes[0].function() == ["http://127.0.0.1:8200"]
        assert not await database.ready()


def test_the_clock_is_in_utc_and_goes_forward() -> None:
    """Aware dates, and seconds that never go back."""
    clock = Clock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
