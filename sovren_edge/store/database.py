"""Owns the pool of connections to PostgreSQL.

Must not know what is stored. A database that is away is no fault at the start: calls answer 503 until it is there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

import asyncpg

from sovren_edge.errors import EdgeError
from sovren_edge.store.connection import AWAY, Connection, Row, Value, connect, connected, connecting, server_settings
from sovren_edge.store.settings import DatabaseSettings

# Another machine that vanished is noticed by PostgreSQL within half a minute, and its locks are free.
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4"}


class Database:
    """A pool of connections; every call raises EdgeError 503 `database_unavailable` while the database is away."""

    def __init__(
        self, pool: asyncpg.Pool, timeout_s: float, session: Callable[[], AbstractAsyncContextManager[Connection]]
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._session = session

    async def ready(self) -> bool:
        """Whether the database answers."""
        try:
            return bool(await self.fetchval("SELECT true"))
        except EdgeError:
            return False

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Hold one connection; exceptions of the block pass unchanged, but for its connection's loss and time-outs."""
        with connecting():
            connection: Connection = await self._pool.acquire(timeout=self._timeout_s)
        try:
            with connected(connection):
                yield connection
        finally:
            # What has become of the block is told, a cancellation above all: the pool drops what it cannot use again.
            with suppress(*AWAY):
                await self._pool.release(connection, timeout=self._timeout_s)

    def session(self) -> AbstractAsyncContextManager[Connection]:
        """Hold a connection beside the pool, for what lasts as long as its session: exceptions are as of `acquire`."""
        return self._session()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Hold one connection within a transaction, which an exception rolls back."""
        async with self.acquire() as connection, _within(connection.transaction()):
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Hold one connection within a transaction that only reads, and sees all as it stood at one moment."""
        async with (
            self.acquire() as connection,
            _within(connection.transaction(isolation="repeatable_read", readonly=True)),
        ):
            yield connection

    async def fetch(self, query: str, *parameters: object) -> list[Row]:
        """Return all rows of a query."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *parameters)

    async def fetchrow(self, query: str, *parameters: object) -> Row | None:
        """Return a query's first row, if there is one."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *parameters)

    async def fetchval(self, query: str, *parameters: object) -> Value:
        """Return the first column of a query's first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *parameters)

    async def execute(self, query: str, *parameters: object) -> str:
        """Run a statement and return its tag."""
        async with self.acquire() as connection:
            return await connection.execute(query, *parameters)


@asynccontextmanager
async def _within(transaction: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """Be within a transaction; the block's exception passes, also where nothing can be rolled back any more."""
    await transaction.__aenter__()
    try:
        yield
    except BaseException as error:
        with suppress(*AWAY):
            await transaction.__aexit__(type(error), error, error.__traceback__)
        raise
    await transaction.__aexit__(None, None, None)


@asynccontextmanager
async def open_database(url: str, settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Open a pool without connecting; sessions see the settings' schema alone."""
    timeout_s = settings.timeout_s
    session = partial(connect, url, settings.schema_name, timeout_s, command_timeout_s=timeout_s, **_KEEPALIVE)
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=settings.connections,
        timeout=timeout_s,
        command_timeout=timeout_s,
        server_settings=server_settings(settings.schema_name),
    )
    await pool
    try:
        yield Database(pool, timeout_s, session)
    finally:
        # A pool whose closing is interrupted drops its connections.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await pool.close()
