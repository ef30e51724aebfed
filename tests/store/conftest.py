"""One server for all tests of the store, and an empty database for each."""

import importlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from sovren_edge.store.history import History
from tests.local_postgres import temporary_postgres

MakeHistory = Callable[[str, Mapping[str, str]], History]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[str]:
    """Yield the server's URL."""
    async with temporary_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Return numbers for what must have a name of its own."""
    return itertools.count(1)


@pytest.fixture
async def database_url(postgres: str, numbers: Iterator[int]) -> str:
    """Return the URL of an empty database."""
    name = f"test_{next(numbers)}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture
def make_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Iterator[int]) -> MakeHistory:
    """Return a way to write a history's files into a new package."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, texts: Mapping[str, str]) -> History:
        package = f"migrations_{next(numbers)}"
        directory = tmp_path / package
        directory.mkdir()
        (directory / "__init__.py").touch()
        for file, text in texts.items():
            (directory / file).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return History(name, package)

    return make
