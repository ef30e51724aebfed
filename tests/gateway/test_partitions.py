"""A partition for each day: made ahead, dropped when old, and never the last two hours."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.partitions import due, maintain, name_of
from sovren_edge.store.database import open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.local_postgres import temporary_postgres

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SETTINGS = DatabaseSettings()


def test_a_week_is_made_ahead() -> None:
    """Today's as well; what is not a day's is left alone."""
    found = due(["api_requests_default", "api_requests_20261124", "elsewhere"], NOON, timedelta(days=30))
    assert [name_of(day) for day in found.missing] == [f"api_requests_202611{day}" for day in range(25, 31)] + [
        "api_requests_20261201"
    ]
    assert found.outdated == []


@given(minutes=st.integers(0, 60 * 24 * 3), retention=st.timedeltas(timedelta(0), timedelta(days=3)))
def test_the_last_two_hours_stay(minutes: int, retention: timedelta) -> None:
    """Whatever the retention says; and what is kept for longer is kept."""
    now = NOON + timedelta(minutes=minutes)
    days = [now.date() - timedelta(days=n) for n in range(6)]
    outdated = due(map(name_of, days), now, retention).outdated
    for kept in (now, now - timedelta(hours=2), now - retention):
        assert name_of(kept.date()) not in outdated
    assert name_of(days[5]) in outdated


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Run PostgreSQL with the gateway's tables."""
    async with temporary_postgres() as found:
        await migrate(found, SETTINGS.schema_name, [History("gateway", "sovren_edge.gateway.migrations")])
        yield found


async def test_they_are_made_and_dropped(url: str) -> None:
    """And made once, by however many gateways."""
    async with open_database(url, SETTINGS) as database:
        assert len((await maintain(database, NOON, timedelta(days=2))).missing) == 8
        assert not (await maintain(database, NOON, timedelta(days=2))).missing
        later = NOON + timedelta(days=4)
        done = await maintain(database, later, timedelta(days=2))
        assert len(done.missing) == 4
        assert done.outdated == ["api_requests_20261124", "api_requests_20261125"]
        names = await database.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE 'api_requests_2%'")
        assert len(names) == 10
