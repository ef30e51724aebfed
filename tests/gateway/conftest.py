"""What tests of sending share: an authority, a server that it vouches for, and the way to it."""

from collections.abc import AsyncIterator

import pytest
import trustme

from tests.gateway.tls_upstream import HOST, OTHER, SHORT_S, Stage, staged


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
