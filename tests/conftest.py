"""What all tests share: one PostgreSQL, with an empty database for each that asks, a chat model, and Hypothesis."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.local_chat import temporary_chat_model
from tests.local_postgres import temporary_database, temporary_postgres

# A machine that stalls makes no property untrue.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


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
async def database_url(postgres: str, numbers: Iterator[int]) -> AsyncIterator[str]:
    """Yield the URL of an empty database."""
    async with temporary_database(postgres, f"test_{next(numbers)}") as url:
        yield url


@pytest.fixture(scope="session")
def chat_model() -> Iterator[str]:
    """Yield the real chat model's base URL, without a slash or a path; no test may end it."""
    with temporary_chat_model() as url:
        yield url
