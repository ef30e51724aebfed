"""Who is alive, who was clean since when, and what becomes of rows whose owner is gone; with a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from harness import eventually

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger import owners as module
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.journal import JournalError, leftovers, open_journal
from sovren_edge.gateway.ledger.ledger import apply
from sovren_edge.gateway.ledger.owners import Owners, open_owners
from sovren_edge.gateway.ledger.rows import RequestRow, encode
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.journals import flip
from tests.gateway.reserving import reserved, until

LOG = structlog.get_logger()
SETTINGS = DatabaseSettings(timeout_s=1.0)
SIZE = 1 << 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hearts beat fast."""
    for name, seconds in (("BEAT_S", 0.01), ("SETTLE_S", 0.01)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
async def database(gateway_url: str) -> AsyncIterator[Database]:
    """Open the database."""
    async with open_database(gateway_url, SETTINGS) as database:
        yield database


async def decision(database: Database, row: RequestRow) -> str:
    """Return what stands in the table of a request."""
    found: str = await database.fetchval("SELECT decision FROM api_requests WHERE request_id = $1", row.request_id)
    return found


async def awaited(owners: Owners, moment: int, names: list[str]) -> None:
    """Wait until just these are waited for."""

    async def just_these() -> bool:
        return await owners.awaited(moment) == names

    await until(just_these)


async def test_an_owner_is_absent_until_it_is_registered(database: Database) -> None:
    """And from then on it is not."""
    async with open_owners(database, "a:1", lambda: True, LOG) as owners:
        assert owners.absent
        await eventually(lambda: not owners.absent)
        assert await database.fetchval("SELECT owner FROM owners WHERE closed_at IS NULL") == "a:1"
    assert await database.fetchval("SELECT closed_at IS NOT NULL FROM owners")


async def test_an_owner_that_is_not_seen_for_a_day_is_absent(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own clock: it need not hear of it."""
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(module, "now_s", lambda: clock.s)
    async with open_owners(database, "a:1", lambda: True, LOG) as owners:
        await eventually(lambda: not owners.absent)
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE owners")
            await asyncio.sleep(0.05)
            clock.s += module.REACHED_S
            assert owners.reached
            clock.s += 1
            assert not owners.reached
            assert not owners.absent
            clock.s += module.ABSENT_S
            assert owners.absent
        await eventually(lambda: owners.reached and not owners.absent)


async def test_who_is_clean_after_a_moment_is_not_awaited(database: Database) -> None:
    """Only what was looked at after the moment counts; who is not clean, or has vanished, is waited for."""
    clean = {"a:1": True, "b:2": True}
    async with (
        open_owners(database, "a:1", lambda: clean["a:1"], LOG) as owners,
        open_owners(database, "b:2", lambda: clean["b:2"], LOG) as other,
    ):
        await eventually(lambda: not owners.absent and not other.absent)
        await awaited(owners, await owners.moment(), [])
        clean["b:2"] = False
        # A beat may be on its way that says what was true before.
        await database.fetchval("SELECT pg_sleep(0.1)")
        moment = await owners.moment()
        assert "b:2" in await owners.awaited(moment)
        await awaited(owners, moment, ["b:2"])
        await asyncio.sleep(0.1)
        assert await owners.awaited(moment) == ["b:2"]
        clean["b:2"] = True
        await awaited(owners, moment, [])
        clean["b:2"] = False
    async with open_owners(database, "c:3", lambda: True, LOG) as later:
        await awaited(later, await later.moment(), ["b:2"])
        await database.execute("UPDATE owners SET seen_at = seen_at - interval '27 hours' WHERE owner = 'b:2'")
        await awaited(later, await later.moment(), [])


async def test_being_clean_is_dated_by_what_was_known_before_it_was_looked(database: Database) -> None:
    """A moment that is taken between the look and the beat is not covered by it."""
    seen: list[int] = []
    async with database.session() as session:
        owner = Owners(database, "a:1", lambda: True, LOG)
        for _ in range(2):
            await owner.beat(session)
            seen.append(await owner.moment())
            assert await owner.awaited(seen[-1]) == ["a:1"]
    await database.execute("UPDATE owners SET clean_moment = $1", seen[0] + 1)
    assert await owner.awaited(seen[0]) == []


async def test_rows_of_the_gone_become_unknown(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the lock is free and they have not been seen for a while; those of the living stay."""
    monkeypatch.setattr(module, "GONE_S", 0.3)
    mine, theirs, dead = (reserved(owner) for owner in ("a:1", "b:2", "c:3"))
    await apply(database, [encode(row) for row in (mine, theirs, dead)])
    async with (
        open_owners(database, "a:1", lambda: True, LOG) as owners,
        open_owners(database, "b:2", lambda: True, LOG) as other,
    ):
        await eventually(lambda: not owners.absent and not other.absent)

        async def gone() -> bool:
            return await decision(database, dead) == "unknown"

        await until(gone)
        assert await decision(database, mine) == await decision(database, theirs) == "reserved"
        found = await database.fetchrow("SELECT * FROM api_requests WHERE request_id = $1", dead.request_id)
        assert found is not None
        assert (found["reason"], found["grant_charged"], found["granted_us"]) == ("owner_gone", True, [1_000_000])
        assert found["settled_at"] is not None


async def test_whose_lock_is_held_is_not_gone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago it was seen; when its session has ended, it is."""
    monkeypatch.setattr(module, "GONE_S", 0.0)
    row = reserved("b:2")
    await apply(database, [encode(row)])
    watcher = Owners(database, "a:1", lambda: True, LOG)
    async with database.session() as session:
        assert await session.fetchval("SELECT pg_try_advisory_lock(hashtextextended('b:2', 0))")
        await watcher.settle()
        assert await decision(database, row) == "reserved"

    async def gone() -> bool:
        await watcher.settle()
        return await decision(database, row) == "unknown"

    await until(gone)


async def test_an_owner_outlives_an_outage(tmp_path: Path) -> None:
    """It may be started while PostgreSQL is away, and takes its lock again whenever that returns."""
    async with run_postgres(tmp_path, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [History("gateway", "sovren_edge.gateway.migrations")])
    async with (
        open_database(postgres.url, SETTINGS) as database,
        open_owners(database, "a:1", lambda: True, LOG) as owners,
    ):

        async def held() -> bool:
            return await locks(database) == 1

        with pytest.raises(EdgeError):
            await owners.moment()
        assert owners.absent
        for _ in range(2):
            async with run_postgres(tmp_path, 5432):
                await until(held)
                await eventually(lambda: not owners.absent)
                await awaited(owners, await owners.moment(), [])


async def locks(database: Database) -> int:
    """Return how many owners hold their lock, 0 while PostgreSQL is away."""
    try:
        found: int = await database.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    except EdgeError:
        return 0
    return found


async def test_journals_of_the_gone_are_adopted(database: Database, tmp_path: Path) -> None:
    """Their rows are there, their owners closed and their files gone; a journal that is open is left alone."""
    rows = [reserved("dead:1") for _ in range(5)]
    await database.execute("INSERT INTO owners (owner) VALUES ('dead:1'), ('a:1')")
    with open_journal(tmp_path / "dead.journal", owner="dead:1", size=SIZE) as journal:
        for row in rows:
            journal.append([encode(row)])
    with open_journal(tmp_path / "own.journal", owner="a:1", size=SIZE) as own:
        own.append([encode(reserved("a:1"))])
        adoption = Adoption(tmp_path, database, LOG)
        assert not adoption.complete
        assert await adoption.adopt()
        assert adoption.complete
        assert leftovers(tmp_path) == []
    assert leftovers(tmp_path) == [tmp_path / "own.journal"]
    found = await database.fetch("SELECT request_id FROM api_requests")
    assert {row["request_id"] for row in found} == {row.request_id for row in rows}
    assert await database.fetchval("SELECT owner FROM owners WHERE closed_at IS NOT NULL") == "dead:1"


async def test_a_journal_is_kept_until_postgres_has_it(tmp_path: Path) -> None:
    """Away, it is still locked by nobody; one that is bad is told at once."""
    path = tmp_path / "dead.journal"
    with open_journal(path, owner="dead:1", size=SIZE) as journal:
        journal.append([encode(reserved())])
        journal.append([encode(reserved())])
    async with open_database("postgresql://postgres@/postgres?host=%2Fnonexistent", SETTINGS) as database:
        adoption = Adoption(tmp_path, database, LOG)
        assert not await adoption.adopt()
        assert path.exists()
        flip(path, 4100)
        with pytest.raises(JournalError, match="bad record"):
            await adoption.adopt()
        assert not adoption.complete


async def test_a_bad_journal_is_told_once_while_others_are_adopted(database: Database, tmp_path: Path) -> None:
    """And the round goes on."""
    for name in ("bad", "good"):
        with open_journal(tmp_path / f"{name}.journal", owner=name, size=SIZE) as journal:
            journal.append([encode(reserved())])
            journal.append([encode(reserved())])
    flip(tmp_path / "bad.journal", 4100)
    told: list[str] = []
    log = SimpleNamespace(error=lambda event, **_: told.append(event), info=lambda *_, **__: None)
    adopting = asyncio.create_task(Adoption(tmp_path, database, log).adopt_now_and_then(0.01))  # type: ignore[arg-type]
    await eventually(lambda: told)
    await asyncio.sleep(0.1)
    adopting.cancel()
    assert told == ["journal_not_adopted"]
    assert await database.fetchval("SELECT count(*) FROM api_requests") == 2
