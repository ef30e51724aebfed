"""The pool against a real PostgreSQL."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import asyncpg
import pytest

from sovren_edge.errors import EdgeError
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.settings import DatabaseSettings

SETTINGS = DatabaseSettings(schema_name="sovren_edge", connections=2, timeout_s=20)
Hold: TypeAlias = AbstractAsyncContextManager[Connection]
END_OTHERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_sessions_see_our_schema_and_utc(database_url: str) -> None:
    """Also after a session was used and reset."""
    async with open_database(database_url, SETTINGS) as database:
        assert await database.ready()
        await database.execute("SET search_path TO public")
        assert await database.fetchval("SHOW search_path") == '"sovren_edge"'
        assert await database.fetchval("SHOW timezone") == "UTC"
        assert await database.fetchval("SHOW application_name") == "sovren-edge"


async def test_a_transaction_keeps_all_or_nothing(database_url: str) -> None:
    """The block's own exception passes unchanged and rolls back."""
    async with open_database(database_url, SETTINGS) as database:
        await database.execute("CREATE SCHEMA sovren_edge; CREATE TABLE sovren_edge.t (id int PRIMARY KEY)")
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES ($1)", 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            await fill_twice(database_url)
        assert [row["id"] for row in await database.fetch("SELECT id FROM t")] == [1]
        assert await database.fetchrow("SELECT id FROM t WHERE id = $1", 2) is None


async def fill_twice(url: str) -> None:
    """Insert a new row and one that exists, in one transaction."""
    async with open_database(url, SETTINGS) as database, database.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (2)")
        await connection.execute("INSERT INTO t VALUES (1)")


async def test_a_database_that_is_away_answers_503() -> None:
    """Opening succeeds; every call says when to come back."""
    async with open_database("postgresql://postgres@/postgres?host=%2Fnonexistent", SETTINGS) as database:
        assert not await database.ready()
        with pytest.raises(EdgeError) as away:
            await database.fetchval("SELECT 1")
        assert (away.value.problem.status, away.value.problem.reason) == (503, "database_unavailable")
        assert away.value.problem.retry_after_s


@pytest.mark.parametrize(
    "raised",
    ["read_only_sql_transaction", "disk_full", "out_of_memory", "query_canceled", "idle_session_timeout"],
)
async def test_a_server_in_need_answers_503(database_url: str, raised: str) -> None:
    """A full disk, or a standby after a failover, is no mistake of the caller's, and may pass."""
    async with open_database(database_url, SETTINGS) as database:
        with pytest.raises(EdgeError) as away:
            await database.execute(f"DO $$ BEGIN RAISE {raised}; END $$")
        assert away.value.problem.reason == "database_unavailable"
        assert await database.ready()


async def test_a_lost_connection_answers_503_and_the_next_call_works(database_url: str) -> None:
    """The pool replaces what the server ended."""
    async with open_database(database_url, SETTINGS) as database:
        with pytest.raises(EdgeError):
            await use_an_ended_connection(database)
        assert await database.ready()


async def use_an_ended_connection(database: Database) -> None:
    """Query over a connection that the server has ended."""
    async with database.acquire() as connection:
        await connection.fetchval("SELECT 1")
        await database.execute(END_OTHERS)
        await connection.fetchval("SELECT 1")


async def test_a_busy_pool_and_a_slow_query_answer_503(database_url: str) -> None:
    """Nobody waits longer than the time-out."""
    async with open_database(database_url, SETTINGS.model_copy(update={"timeout_s": 1.0})) as database:
        async with database.acquire(), database.acquire():
            with pytest.raises(EdgeError):
                await database.fetchval("SELECT 1")
        with pytest.raises(EdgeError):
            await database.fetchval("SELECT pg_sleep(60)")
    async with open_database(database_url, SETTINGS) as database:
        assert await database.ready()


async def test_the_block_s_own_exceptions_pass(database_url: str) -> None:
    """An OSError of the caller's is not the database's."""
    async with open_database(database_url, SETTINGS) as database:
        with pytest.raises(FileNotFoundError):
            async with database.acquire():
                raise FileNotFoundError


@pytest.mark.parametrize("raised", [LookupError, asyncio.CancelledError])
@pytest.mark.parametrize("hold", [Database.acquire, Database.transaction, Database.session])
async def test_a_lost_connection_hides_no_exception(
    database_url: str, hold: Callable[[Database], Hold], raised: type[BaseException]
) -> None:
    """Whoever is cancelled ends, also when its connection can no more be given back."""
    async with open_database(database_url, SETTINGS) as database:
        with pytest.raises(raised):
            await fail_on_an_ended_connection(database, hold(database), raised)
        assert await database.ready()


async def fail_on_an_ended_connection(database: Database, held: Hold, raised: type[BaseException]) -> None:
    """Raise something over a connection that the server has ended."""
    async with held as connection:
        await connection.fetchval("SELECT 1")
        await database.execute(END_OTHERS)
        raise raised


async def test_a_session_is_beside_the_pool(database_url: str) -> None:
    """It takes no connection from others, and its end is told to its holder."""
    async with open_database(database_url, SETTINGS.model_copy(update={"connections": 1})) as database:
        async with database.session() as session, database.acquire() as connection:
            mine, pooled = [await each.fetchval("SELECT pg_backend_pid()") for each in (session, connection)]
            assert mine != pooled
            assert await session.fetchval("SHOW search_path") == '"sovren_edge"'
        with pytest.raises(EdgeError):
            await use_an_ended_session(database)
    async with open_database("postgresql://postgres@/postgres?host=%2Fnonexistent", SETTINGS) as away:
        with pytest.raises(EdgeError):
            await away.session().__aenter__()


async def use_an_ended_session(database: Database) -> None:
    """Ask on a session that the server has ended."""
    async with database.session() as session:
        await database.execute(END_OTHERS)
        await session.fetchval("SELECT 1")
