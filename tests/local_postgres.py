"""A real PostgreSQL for tests, in a directory of its own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from sovren_edge.local.postgres import run_postgres


@asynccontextmanager
async def temporary_postgres() -> AsyncIterator[str]:
    """Run a server and yield its URL; its data are gone afterwards, so it takes no care of them."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        async with run_postgres(Path(directory), 5432, fsync="off", full_page_writes="off") as postgres:
            yield postgres.url


async def make_database(server: str, name: str, *, template: str = "template1") -> str:
    """Make a database like another one, and return its URL."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    finally:
        await connection.close()
    return server.replace("/postgres?", f"/{name}?")
