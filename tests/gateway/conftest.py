"""What tests of the gateway share: its tables, an authority, a server that it vouches for, and the way to it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.migrations import migrate
from tests.gateway.databases import CALL_S, SETTINGS
from tests.gateway.tls_upstream import HOST, OTHER, SHORT_S, Stage, staged
from tests.gateway.valkey import Valkey
from tests.local_postgres import temporary_database

TEMPLATE = "gateway"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway_server(postgres: str) -> AsyncIterator[str]:
    """Yield the URL of a server that has a database with the gateway's tables, which nobody uses."""
    async with temporary_database(postgres, TEMPLATE) as url:
        await migrate(url, SETTINGS.schema_name, [HISTORY])
        yield postgres


@pytest.fixture
async def gateway_url(gateway_server: str, numbers: Iterator[int]) -> AsyncIterator[str]:
    """Yield the URL of a database of the test's own with the gateway's tables, empty."""
    async with temporary_database(gateway_server, f"gateway_{next(numbers)}", template=TEMPLATE) as url:
        yield url


@pytest.fixture
async def database(gateway_url: str) -> AsyncIterator[Database]:
    """Open it."""
    async with open_database(gateway_url, SETTINGS) as database:
        yield database


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make the authority that is trusted."""
    return trustme.CA()


@pytest.fixture
async def stage(authority: trustme.CA) -> AsyncIterator[Stage]:
    """Open everything, with a good certificate."""
    async with staged(authority, authority.issue_cert(HOST, OTHER)) as stage:
        yield stage


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for the next byte."""
    monkeypatch.setattr("sovren_edge.gateway.egress.client.IDLE_S", SHORT_S)


@pytest.fixture
async def valkey(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Valkey]:
    """Run an empty Valkey, which may answer as late as a busy machine lets it."""
    monkeypatch.setattr("sovren_edge.gateway.limit.redis_link.CALL_S", CALL_S)
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        valkey = Valkey(Path(folder))
        await valkey.start()
        try:
            yield valkey
        finally:
            await valkey.stop()
