"""A real PostgreSQL for tests, in a directory of its own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from sovren_edge.local.postgres import run_postgres


@asynccontextmanager
async def temporary_postgres() -> AsyncIterator[str]:
    """Run a server and yield its URL; its data are gone afterwards, so it takes no care of them.

    Nor does it vacuum, whose locks would come between those of a test at any time.
    """
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        settings = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
        async with run_postgres(Path(directory), 5432, **settings) as postgres:
            yield postgres.url


@asynccontextmanager
async def temporary_database(server: str, name: str, *, template: str = "template1") -> AsyncIterator[str]:
    """Make a database like another one, and yield its URL; it is gone afterwards, whoever is connected."""
    await _tell(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield server.replace("/postgres?", f"/{name}?")
    finally:
        await _tell(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _tell(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
