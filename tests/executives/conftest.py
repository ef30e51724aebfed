"""What tests of executives share: their tables, an edge with a clock that stands still, and the board on a port."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from handlers.executives.service import Executives
from sovren_edge.handler import Clock, Database, Edge, Metrics
from sovren_edge.store.database import open_database
from sovren_edge.store.migrations import migrate
from tests.executives.board import HISTORY, SETTINGS, Board, Hands, make_verifier, open_board
from tests.handler.witness import Witness
from tests.local_postgres import temporary_database

TEMPLATE = "executives"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def executives_server(postgres: str) -> AsyncIterator[str]:
    """Yield the URL of a server that has a database with the tables of executives, which nobody uses."""
    async with temporary_database(postgres, TEMPLATE) as url:
        await migrate(url, SETTINGS.schema_name, [HISTORY])
        yield postgres


@pytest.fixture
async def executives_url(executives_server: str, numbers: Iterator[int]) -> AsyncIterator[str]:
    """Yield the URL of a database of the test's own, with the founder's board in it."""
    async with temporary_database(executives_server, f"executives_{next(numbers)}", template=TEMPLATE) as url:
        yield url


@pytest.fixture
async def database(executives_url: str) -> AsyncIterator[Database]:
    """Open it."""
    async with open_database(executives_url, SETTINGS) as database:
        yield database


@pytest.fixture
def hands() -> Hands:
    """Return the hands of the edge's clock."""
    return Hands()


@pytest.fixture
def witness() -> Witness:
    """Return what keeps the edge's log."""
    return Witness()


@pytest.fixture
async def edge(executives_url: str, hands: Hands, witness: Witness, tmp_path: Path) -> AsyncIterator[Edge]:
    """Yield what a handler is given; it has no doors."""

    def open_it() -> AbstractAsyncContextManager[Database]:
        return open_database(executives_url, SETTINGS)

    async with ClientSession() as http:
        yield Edge(
            name="executives",
            log=witness.log,
            clock=Clock(now=hands.now, monotonic=hands.monotonic),
            http=http,
            metrics=Metrics(),
            open_database=open_it,
            doors={},
            state_dir=tmp_path,
            tokens=make_verifier(hands),
        )


@pytest.fixture
async def board(edge: Edge, database: Database, hands: Hands) -> AsyncIterator[Board]:
    """Open the board, without a model and without speech."""
    async with open_board(Executives(), edge, database, hands) as board:
        yield board
