"""One connection that is kept between statements, with a real PostgreSQL."""

import asyncio
import sys

import pytest

from sovren_edge.errors import EdgeError
from sovren_edge.store.database import open_database
from sovren_edge.store.settings import DatabaseSettings
from sovren_edge.store.steady import Steady, open_steady

SETTINGS = DatabaseSettings(timeout_s=20.0)
NOTE = "INSERT INTO notes VALUES ($1, pg_backend_pid())"
PIDS = "SELECT pid FROM notes ORDER BY number"
END_IT = "SELECT pg_terminate_backend(pid) FROM notes ORDER BY number DESC LIMIT 1"


async def test_statements_share_one_connection_that_is_made_anew_when_it_is_lost(database_url: str) -> None:
    """The statement that meets the loss fails as all do while PostgreSQL is away; the next one is on another."""
    async with open_database(database_url, SETTINGS) as database, open_steady(database.session) as steady:
        await steady.execute("CREATE SCHEMA IF NOT EXISTS sovren_edge")
        await steady.execute("CREATE TABLE notes (number int, pid int)")
        for number in range(3):
            await steady.execute(NOTE, number)
        rows = await database.fetch(PIDS)
        assert len({row["pid"] for row in rows}) == 1
        await database.execute(END_IT)
        with pytest.raises(EdgeError, match="away"):
            await _until_it_fails(steady)
        await steady.execute(NOTE, 3)
        rows = await database.fetch(PIDS)
        assert len({row["pid"] for row in rows}) == 2


async def _until_it_fails(steady: Steady) -> None:
    while True:
        await steady.execute("SELECT 1")


async def test_one_that_hangs_holds_up_nobody(database_url: str) -> None:
    """Whoever comes meanwhile has another one; of the two, one is kept."""
    async with open_database(database_url, SETTINGS) as database, open_steady(database.session) as steady:
        async with database.transaction() as holder:
            await holder.execute("SELECT pg_advisory_xact_lock(1)")
            slow = asyncio.ensure_future(steady.execute("SELECT pg_advisory_lock(1)"))
            await asyncio.sleep(0)
            await steady.execute("SELECT 1")
            assert not slow.done()
        await slow
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while await database.fetchval(others) > 1:  # noqa: ASYNC110 - PostgreSQL's
            await asyncio.sleep(0.01)


async def test_a_closed_one_keeps_nothing(database_url: str) -> None:
    """A statement that ends after that gives its connection up."""
    async with open_database(database_url, SETTINGS) as database:
        async with open_steady(database.session) as steady:
            slow = asyncio.ensure_future(steady.execute("SELECT pg_sleep(0.2)"))
            await asyncio.sleep(0.05)
        assert await slow == "SELECT 1"
        await steady.close()
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while await database.fetchval(others):  # noqa: ASYNC110 - PostgreSQL's
            await asyncio.sleep(0.01)


async def test_it_ends_after_any_number_of_statements(database_url: str) -> None:
    """More of them than Python lets calls be deep."""
    async with open_database(database_url, SETTINGS) as database, open_steady(database.session) as steady:
        for _ in range(2 * sys.getrecursionlimit()):
            await steady.execute("SELECT 1")
