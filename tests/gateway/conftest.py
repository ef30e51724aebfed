"""What tests of the gateway share: a database, an authority, a server that it vouches for, and the way to it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import trustme

from sovren_edge.store.database import Database, open_database
from tests.gateway.databases import SETTINGS, gateway_tables
from tests.gateway.tls_upstream import HOST, OTHER, SHORT_S, Stage, staged


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway_url() -> AsyncIterator[str]:
    """Yield the URL of a server with the gateway's tables."""
    async with gateway_tables() as url:
        yield url


@pytest.fixture
async def database(gateway_url: str) -> AsyncIterator[Database]:
    """Open it; what tests have stored before is gone."""
    async with open_database(gateway_url, SETTINGS) as database:
        await database.execute("TRUNCATE credentials, idempotency_keys, subscribers")
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
    monkeypatch.setattr("sovren_edge.gateway.egress.IDLE_S", SHORT_S)
