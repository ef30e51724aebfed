"""Migrations against a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.store import migrations
from sovren_edge.store.migrations import check, migrate
from tests.store.conftest import MakeHistory

SCHEMA = "sovren_edge"
TABLES = {"0001_tables.sql": "CREATE TABLE subscribers (id int); CREATE TABLE api_costs (id int);"}
AWAY = "postgresql://postgres@/postgres?host=%2Fnonexistent"


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a plain connection, as another program would."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_each_is_applied_once(database_url: str, make_history: MakeHistory) -> None:
    """A second run finds nothing to do, and a later file is applied alone."""
    history = make_history("core", TABLES)
    assert await migrate(database_url, SCHEMA, [history]) == ["core/0001_tables.sql"]
    assert await migrate(database_url, SCHEMA, [history]) == []
    longer = make_history("core", {**TABLES, "0002_more.sql": "ALTER TABLE subscribers ADD name text"})
    assert await migrate(database_url, SCHEMA, [longer]) == ["core/0002_more.sql"]
    assert await check(database_url, SCHEMA, [history, longer]) == []


async def test_tables_of_our_names_elsewhere_stay_untouched(database_url: str, make_history: MakeHistory) -> None:
    """Even a DROP in a migration cannot reach them."""
    async with connect(database_url) as other:
        await other.execute("CREATE TABLE subscribers (email text); INSERT INTO subscribers VALUES ('someone')")
        await other.execute("CREATE TABLE migrations (theirs int); INSERT INTO migrations VALUES (7)")
        history = make_history("core", {"0001_a.sql": f"DROP TABLE IF EXISTS subscribers; {TABLES['0001_tables.sql']}"})
        await migrate(database_url, SCHEMA, [history])
        assert await other.fetchval("SELECT email FROM public.subscribers") == "someone"
        assert await other.fetchval("SELECT theirs FROM public.migrations") == 7
        assert await other.fetchval("SELECT count(*) FROM sovren_edge.subscribers") == 0


async def test_concurrent_migrators_apply_each_once(database_url: str, make_history: MakeHistory) -> None:
    """Together they apply every file, and no file twice."""
    steps = {f"000{number}_step.sql": f"CREATE TABLE step_{number} (id int)" for number in range(1, 6)}
    histories = [make_history("core", steps), make_history("other", {"0001_more.sql": "CREATE TABLE more (id int)"})]
    results = await asyncio.gather(*(migrate(database_url, SCHEMA, histories) for _ in range(3)))
    applied = [name for result in results for name in result]
    assert sorted(applied) == sorted([*(f"core/{name}" for name in steps), "other/0001_more.sql"])


async def test_a_failing_migration_leaves_no_trace(database_url: str, make_history: MakeHistory) -> None:
    """Those before it stay; the fault names the file."""
    history = make_history("core", {**TABLES, "0002_bad.sql": "CREATE TABLE half (id int); SELECT 1/0"})
    with pytest.raises(StartupError, match=r"core/0002_bad\.sql failed and was rolled back: division by zero"):
        await migrate(database_url, SCHEMA, [history])
    async with connect(database_url) as other:
        assert await other.fetchval("SELECT to_regclass('sovren_edge.half')") is None
        assert await other.fetchval("SELECT max(version) FROM sovren_edge.migrations") == 1
    assert (
        "the database is at version 1, and this program needs 2 or 3"
        in (await check(database_url, SCHEMA, [history]))[0]
    )


async def test_a_changed_file_is_refused(database_url: str, make_history: MakeHistory) -> None:
    """By both commands, by name."""
    await migrate(database_url, SCHEMA, [make_history("core", TABLES)])
    changed = make_history("core", {"0001_tables.sql": "SELECT 1"})
    with pytest.raises(StartupError, match=r"0001_tables\.sql is not the file"):
        await migrate(database_url, SCHEMA, [changed])
    assert len(await check(database_url, SCHEMA, [changed])) == 1


async def test_a_table_in_use_is_waited_for_only_so_long(
    database_url: str, make_history: MakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault says what was waited for."""
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_S", 1)
    await migrate(database_url, SCHEMA, [make_history("core", TABLES)])
    longer = make_history("core", {**TABLES, "0002_more.sql": "ALTER TABLE subscribers ADD name text"})
    async with connect(database_url) as other, other.transaction():
        await other.execute("LOCK TABLE sovren_edge.subscribers")
        with pytest.raises(StartupError, match=r"0002_more\.sql waited 1 s for a table"):
            await migrate(database_url, SCHEMA, [longer])
    assert await migrate(database_url, SCHEMA, [longer]) == ["core/0002_more.sql"]


async def test_a_second_migrator_waits_only_so_long(
    database_url: str, make_history: MakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault says that another program is at work."""
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_S", 1)
    async with connect(database_url) as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", 0x736F_7672_656E)
        with pytest.raises(StartupError, match="another program is migrating"):
            await migrate(database_url, SCHEMA, [make_history("core", TABLES)])


async def test_a_migration_may_not_end_its_transaction(database_url: str, make_history: MakeHistory) -> None:
    """A COMMIT within a file is named as the fault."""
    history = make_history("core", {"0001_a.sql": "CREATE TABLE a (id int); COMMIT"})
    with pytest.raises(StartupError, match="remove its COMMIT"):
        await migrate(database_url, SCHEMA, [history])


async def test_a_migration_may_change_its_session(database_url: str, make_history: MakeHistory) -> None:
    """The next one sees our schema again."""
    steps = {"0001_a.sql": "SELECT set_config('search_path', '', false)", "0002_b.sql": "CREATE TABLE b (id int)"}
    assert len(await migrate(database_url, SCHEMA, [make_history("core", steps)])) == 2
    async with connect(database_url) as other:
        assert await other.fetchval("SELECT to_regclass('sovren_edge.b')") is not None


async def test_an_empty_database_is_unsuitable(database_url: str, make_history: MakeHistory) -> None:
    """It is at version 0; a history without files is content with it."""
    faults = await check(database_url, SCHEMA, [make_history("core", TABLES), make_history("none", {})])
    assert faults == ["core: the database is at version 0, and this program needs 1 or 2: run `sovren-edge migrate`"]


async def test_a_database_that_is_away_is_no_fault_of_the_schema(make_history: MakeHistory) -> None:
    """Both commands say 503."""
    history = make_history("core", TABLES)
    with pytest.raises(EdgeError) as away:
        await migrate(AWAY, SCHEMA, [history])
    assert away.value.problem.reason == "database_unavailable"
    with pytest.raises(EdgeError):
        await check(AWAY, SCHEMA, [history])
