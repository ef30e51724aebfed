"""A partition for each day: made ahead, dropped when old, and never the last two hours."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
import structlog
from harness import eventually
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger import partitions as partitions_module
from sovren_edge.gateway.ledger.partitions import due, keep, maintain, name_of
from sovren_edge.store.database import Database
from tests.gateway.books import NOON, cost_of, make_row, write


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


async def partitions(database: Database) -> dict[str, int]:
    """Return how many rows each partition has, of those that have any."""
    rows = await database.fetch("SELECT tableoid::regclass::text AS name, count(*) FROM api_requests GROUP BY 1")
    return {row["name"]: row["count"] for row in rows}


async def test_they_are_made_and_dropped(database: Database) -> None:
    """And made once, by however many gateways."""
    made = await asyncio.gather(*(maintain(database, NOON, timedelta(days=2)) for _ in range(2)))
    # The later one may find some made.
    assert max(len(each.missing) for each in made) == 8
    assert not (await maintain(database, NOON, timedelta(days=2))).missing
    later = NOON + timedelta(days=4)
    done = await maintain(database, later, timedelta(days=2))
    assert len(done.missing) == 4
    assert done.outdated == ["api_requests_20261124", "api_requests_20261125"]
    names = await database.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE 'api_requests_2%'")
    assert len(names) == 10


async def test_a_partition_is_like_the_others(database: Database) -> None:
    """The same row is there once, and what the table forbids is forbidden in it."""
    await maintain(database, NOON, timedelta(days=2))
    row = make_row(decision="reserved", settled_at=None)
    await write(database, row)
    await write(database, replace(row, decision="settled", settled_at=NOON))
    assert await partitions(database) == {"api_requests_20261124": 1}
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = $1"
    assert await database.fetchval(indexes, "api_requests_20261124") == 3
    with pytest.raises(Exception, match="violates check constraint"):
        await write(database, make_row(decision="perhaps"))


async def test_what_came_too_early_moves(database: Database) -> None:
    """From the default partition to its day's; what belongs to no day that is made stays there, until it is too old."""
    days = [-40, -3, -1, 0, 0, 7, 8]
    rows = [make_row(created_at=NOON + timedelta(days=days)) for days in days]
    await write(database, *rows)
    assert await partitions(database) == {"api_requests_default": 7}
    await maintain(database, NOON, timedelta(days=30))
    assert await partitions(database) == {
        "api_requests_20261124": 2,
        "api_requests_20261201": 1,
        "api_requests_default": 3,
    }
    await write(database, *rows[1:])
    assert sum((await partitions(database)).values()) == 6
    await maintain(database, NOON + timedelta(days=1), timedelta(days=30))
    assert (await partitions(database))["api_requests_20261202"] == 1


async def test_costs_are_kept(database: Database) -> None:
    """They are the books."""
    row = make_row(created_at=NOON - timedelta(days=400))
    await write(database, row, cost_of(row, 5))
    await maintain(database, NOON, timedelta(days=30))
    assert await database.fetchval("SELECT count(*) FROM api_requests") == 0
    assert await database.fetchval("SELECT count(*) FROM api_costs") == 1


async def test_rows_are_written_meanwhile(database: Database) -> None:
    """Whatever partition they find, none is refused, lost or there twice."""
    ids = set()

    async def write_rows() -> None:
        while len(ids) < 10_000:
            row = make_row(created_at=NOON + timedelta(days=len(ids) % 8))
            await write(database, row)
            ids.add(row.request_id)
            await write(database, row)

    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(write_rows()) for _ in range(4)]
        await eventually(lambda: len(ids) > 100)
        for _ in range(20):
            with suppress(EdgeError):
                await maintain(database, NOON, timedelta(days=2))
        for writer in writers:
            writer.cancel()
    found = await partitions(database)
    assert "api_requests_default" not in found
    assert len(found) == 8
    written = {row["request_id"] for row in await database.fetch("SELECT request_id FROM api_requests")}
    assert ids <= written
    assert sum(found.values()) == len(written)


async def test_a_table_in_use_delays_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that is read for long is dropped later; who writes does not wait behind that."""
    monkeypatch.setattr(partitions_module, "RETRY_S", 0.01)
    await maintain(database, NOON, timedelta(days=2))
    later = NOON + timedelta(days=4)
    with capture_logs() as logs:
        async with database.snapshot() as connection:
            await connection.fetch("SELECT * FROM api_requests")
            keeping = asyncio.create_task(
                keep(database, lambda: timedelta(days=2), lambda: later, structlog.get_logger())
            )
            await eventually(lambda: logs)
            # It would fail if it had to wait for who reads.
            await write(database, make_row(created_at=NOON + timedelta(days=1)))
        await eventually(lambda: len(logs) > 1)
        keeping.cancel()
    assert [log["event"] for log in logs] == ["partitions_behind", "partitions_maintained"]
    assert logs[0]["why"] == "database_unavailable"
    assert logs[1]["dropped"] == ["api_requests_20261124", "api_requests_20261125"]


async def test_they_are_kept_every_hour(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an hour is, is not waited for here."""
    monkeypatch.setattr(partitions_module, "EVERY_S", 0.01)
    clock = SimpleNamespace(now=NOON)
    keeping = asyncio.create_task(keep(database, lambda: timedelta(days=30), lambda: clock.now, structlog.get_logger()))
    for day in ("20261201", "20261202"):
        async with asyncio.timeout(30):
            while not await database.fetchval("SELECT to_regclass($1) IS NOT NULL", f"api_requests_{day}"):  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.01)
        clock.now += timedelta(days=1)
    keeping.cancel()
