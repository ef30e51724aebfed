"""Rows that are durable, whatever PostgreSQL does; with a real one, which is locked, slowed down and stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog
from harness import eventually

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.journal import open_journal
from sovren_edge.gateway.ledger.ledger import Ledger, open_ledger
from sovren_edge.gateway.ledger.rows import CostRow, RequestRow, encode, group
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.local_postgres import temporary_postgres

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GATEWAY = [History("gateway", "sovren_edge.gateway.migrations")]
SETTINGS = DatabaseSettings()
SIZE = 1 << 20


def row(number: int = 0) -> RequestRow:
    """Return the first writing of a request."""
    return RequestRow(
        request_id=uuid4(), created_at=NOON + timedelta(milliseconds=number), owner="g367-1", subscriber_id="founder",
        service="slack", method="POST", host="slack.com", path="/api", decision="reserved", grant_charged=True,
        granted_us=(1_000_000,), clock="boot",
    )  # fmt: skip


def settled(of: RequestRow) -> RequestRow:
    """Return its last writing."""
    at = of.created_at + timedelta(seconds=1)
    return replace(of, decision="settled", settled_at=at, status=200, upstream_status=200, attempts=1, bytes_out=5)


def cost(of: RequestRow) -> CostRow:
    """Return what it cost."""
    return CostRow(
        request_id=of.request_id, created_at=of.created_at, subscriber_id=of.subscriber_id, service=of.service,
        price_version="1", unit="request", quantity=1, amount_microusd=250, source="price",
    )  # fmt: skip


@asynccontextmanager
async def ledger_on(url: str, journal: Path) -> AsyncIterator[tuple[Ledger, Database]]:
    """Open a ledger on a database."""
    async with open_database(url, SETTINGS) as database:
        with open_journal(journal, owner="g367-1", size=SIZE) as kept:
            async with open_ledger(database, kept, structlog.get_logger()) as ledger:
                yield ledger, database


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Run PostgreSQL with the gateway's tables."""
    async with temporary_postgres() as found:
        await migrate(found, SETTINGS.schema_name, GATEWAY)
        yield found


@pytest.fixture
async def opened(url: str, tmp_path: Path) -> AsyncIterator[tuple[Ledger, Database]]:
    """Open a ledger whose journal is empty."""
    async with ledger_on(url, tmp_path / "one.journal") as (ledger, database):
        await eventually(lambda: not ledger.journaling)
        await database.execute("TRUNCATE api_requests, api_costs")
        yield ledger, database


async def decisions(database: Database) -> dict[UUID, str]:
    """Return what stands in the table."""
    found = await database.fetch("SELECT request_id, decision FROM api_requests")
    assert len({each["request_id"] for each in found}) == len(found), "a row is there twice"
    return {each["request_id"]: each["decision"] for each in found}


async def test_what_was_written_is_there(opened: tuple[Ledger, Database]) -> None:
    """All of it, once it has been acknowledged, and again when it has ended."""
    ledger, database = opened
    one = row()
    await ledger.write(one)
    assert await decisions(database) == {one.request_id: "reserved"}
    await ledger.write(settled(one), cost(one))
    found = await database.fetchrow("SELECT * FROM api_requests")
    assert found is not None
    expected = {name: getattr(settled(one), name) for name in RequestRow.__slots__}
    assert {name: found[name] for name in RequestRow.__slots__} == expected | {"granted_us": [1_000_000]}
    assert await database.fetchval("SELECT amount_microusd FROM api_costs") == 250


async def test_a_further_attempt_is_written_before_the_end(opened: tuple[Ledger, Database]) -> None:
    """It was granted of its own, which must not be forgotten."""
    ledger, database = opened
    one = replace(row(), attempts=1)
    again = replace(one, attempts=2, granted_us=(1_000_000, 2_000_000))
    await ledger.write(one)
    await ledger.write(again, one)
    assert await database.fetchval("SELECT granted_us FROM api_requests") == [1_000_000, 2_000_000]
    await ledger.write(replace(again, attempts=3))
    assert await database.fetchval("SELECT attempts FROM api_requests") == 3


async def test_what_was_unknown_can_become_known(opened: tuple[Ledger, Database]) -> None:
    """Its owner was thought to be gone, or its last writing stood in a journal; then nothing changes any more."""
    ledger, database = opened
    one = row()
    unknown = replace(one, decision="unknown", settled_at=NOON)
    for written, decision in ((unknown, "unknown"), (one, "unknown"), (settled(one), "settled"), (unknown, "settled")):
        await ledger.write(written)
        assert await decisions(database) == {one.request_id: decision}


async def test_no_writing_is_undone_by_an_older_one(opened: tuple[Ledger, Database]) -> None:
    """In any order, any number of times, in one group or in several."""
    ledger, database = opened
    one = row()
    await ledger.write(settled(one), one)
    for again in (one, settled(one), replace(settled(one), status=500)):
        await ledger.write(again, cost(one))
    found = await database.fetchrow("SELECT decision, status FROM api_requests")
    assert found is not None
    assert (found["decision"], found["status"]) == ("settled", 200)
    assert await database.fetchval("SELECT count(*) FROM api_costs") == 1


async def test_many_are_written_together(opened: tuple[Ledger, Database]) -> None:
    """Fewer transactions than rows."""
    ledger, database = opened
    before = await database.fetchval("SELECT pg_current_xact_id()::text::bigint")
    rows = [row(number) for number in range(400)]
    async with asyncio.TaskGroup() as tasks:
        for one in rows:
            tasks.create_task(ledger.write(one))
    after = await database.fetchval("SELECT pg_current_xact_id()::text::bigint")
    assert await decisions(database) == dict.fromkeys((one.request_id for one in rows), "reserved")
    assert after - before < 20


async def test_what_is_not_acknowledged_in_time_is_kept_and_replayed(opened: tuple[Ledger, Database]) -> None:
    """A table that is locked; when it is free again, everything is there once."""
    ledger, database = opened
    rows = [row(number) for number in range(20)]
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
        for one in rows[:10]:
            await ledger.write(one)
        assert ledger.journaling
        await ledger.write(settled(rows[0]))
    for one in rows[10:]:
        await ledger.write(one)
    await eventually(lambda: not ledger.journaling)
    expected = dict.fromkeys((one.request_id for one in rows), "reserved") | {rows[0].request_id: "settled"}
    assert await decisions(database) == expected


async def test_what_comes_while_it_is_replayed_is_replayed_too(opened: tuple[Ledger, Database]) -> None:
    """The journal is emptied all the same, and is there for the next time."""
    ledger, database = opened
    written: list[RequestRow] = []

    async def write_on() -> None:
        while ledger.journaling:
            written.append(one := row(len(written)))
            await ledger.write(one)
            await asyncio.sleep(0.01)  # the journal of these tests is small

    for _ in range(2):
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
            written.append(one := row(len(written)))
            await ledger.write(one)
            assert ledger.journaling
        async with asyncio.timeout(20):
            await asyncio.gather(write_on(), write_on())
    assert set(await decisions(database)) == {one.request_id for one in written}


async def test_commits_that_take_five_seconds_delay_nobody_for_so_long(opened: tuple[Ledger, Database]) -> None:
    """They may still come to their end: the same rows stand there once."""
    ledger, database = opened
    await database.execute(
        "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$"
    )
    await database.execute(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON api_requests_default "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )
    try:
        async with database.transaction() as holder:
            await holder.execute("SELECT pg_advisory_xact_lock(1)")
            one, two = row(1), row(2)
            await ledger.write(one)
            await ledger.write(two)
            assert ledger.journaling
            assert await decisions(database) == {}
    finally:
        await database.execute("DROP TRIGGER slow ON api_requests_default")
    await eventually(lambda: not ledger.journaling)
    assert await decisions(database) == {one.request_id: "reserved", two.request_id: "reserved"}


async def fill(ledger: Ledger, written: list[RequestRow]) -> str:
    """Write long rows until one is refused; return why."""
    for number in range(10_000):
        one = replace(row(number), path="/" + "x" * 8000)
        try:
            await ledger.write(one)
        except EdgeError as error:
            return error.problem.reason
        written.append(one)
    return ""


async def test_a_full_journal_refuses_and_nothing_else_is_lost(url: str, tmp_path: Path) -> None:
    """503, until it has been replayed."""
    async with ledger_on(url, tmp_path / "one.journal") as (ledger, database):
        await eventually(lambda: not ledger.journaling)
        await database.execute("TRUNCATE api_requests")
        written: list[RequestRow] = []
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
            reason = await fill(ledger, written)
        assert reason == "ledger_unavailable"
        assert len(written) > 50
        await eventually(lambda: not ledger.journaling)
        assert set(await decisions(database)) == {one.request_id for one in written}
        await ledger.write(last := row())
        assert last.request_id in await decisions(database)


async def test_postgres_may_be_away_at_the_start_and_for_a_while(tmp_path: Path) -> None:
    """Rows written meanwhile are there when it returns, also those of a process that has ended."""
    data, journal = tmp_path / "postgres", tmp_path / "one.journal"
    data.mkdir()
    async with run_postgres(data, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, GATEWAY)
        url = postgres.url
    rows = [row(number) for number in range(30)]
    async with ledger_on(url, journal) as (ledger, _):
        for one in rows[:10]:
            await ledger.write(one)
    async with ledger_on(url, journal) as (ledger, database):
        for one in rows[10:20]:
            await ledger.write(one)
        async with run_postgres(data, 5432):
            await eventually(lambda: not ledger.journaling)
            for one in rows[20:]:
                await ledger.write(one)
            assert set(await decisions(database)) == {one.request_id for one in rows}


def test_a_text_with_a_zero_byte_is_written_without_it() -> None:
    """PostgreSQL has no such texts, and a row that cannot be written would stop all others."""
    written = group([encode(replace(row(), path="/a\0b"))])
    assert '"/ab"' in written.requests
