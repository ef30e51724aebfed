"""The gateway's tables in a PostgreSQL of a test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.local_postgres import temporary_postgres

SETTINGS = DatabaseSettings(timeout_s=5.0)


@asynccontextmanager
async def gateway_tables() -> AsyncIterator[str]:
    """Run a server with the gateway's tables, and yield its URL."""
    async with temporary_postgres() as url:
        await migrate(url, SETTINGS.schema_name, [HISTORY])
        yield url
