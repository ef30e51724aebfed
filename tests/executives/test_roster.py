"""Who stands at a subscriber's side: read from a real PostgreSQL."""

from pathlib import Path

import asyncpg
import pytest

import handlers.executives.migrations
from handlers.executives.roster import Executive, Roster
from sovren_edge.handler import Database, EdgeError
from sovren_edge.local.engine.request import VOICES
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import open_database
from tests.executives.board import FOUNDER, SETTINGS, hire


@pytest.fixture
def roster(database: Database) -> Roster:
    """Return the roster."""
    return Roster(database)


async def everybody(roster: Roster, subscriber: str = FOUNDER) -> list[Executive]:
    """Return all of a subscriber's executives."""
    found, total = await roster.page(subscriber, role=None, status=None, limit=100, offset=0)
    assert len(found) == total
    return [*found]


async def reason_of(calling: object) -> tuple[int, str]:
    """Return how a call is refused."""
    with pytest.raises(EdgeError) as raised:
        await calling  # type: ignore[misc]
    return raised.value.problem.status, raised.value.problem.reason


async def test_the_founder_has_twenty_of_twenty_one_reserved_names(roster: Roster, database: Database) -> None:
    """Each once, with a role, a department and a persona of its own, and a voice that can be heard."""
    founders = await everybody(roster)
    assert len(founders) == 20
    for distinct in ("id", "name", "role", "department", "persona"):
        assert len({getattr(one, distinct) for one in founders}) == 20
    assert {one.voice for one in founders} <= set(VOICES)
    assert all(one.status == "active" and one.capabilities for one in founders)
    reserved = await database.fetch("SELECT name FROM available_names WHERE reserved_for = $1", FOUNDER)
    assert len(reserved) == 21
    assert {one.name for one in founders} < {row["name"] for row in reserved}
    assert [one.role for one in founders[:5]] == ["CEO", "COO", "CFO", "CTO", "CMO"]


async def test_a_reserved_name_is_nobody_else_s(database: Database) -> None:
    """The database itself sees to it, whoever writes to it."""
    (reserved,) = await database.fetch("""
        SELECT name FROM available_names WHERE name NOT IN (SELECT name FROM subscriber_executives)
    """)
    with pytest.raises(asyncpg.CheckViolationError, match=f"the name {reserved['name']} is reserved"):
        await hire(database, "other", "ceo", name=reserved["name"])
    await hire(database, "other", "ceo", name="Another")
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute("UPDATE subscriber_executives SET name = $1 WHERE name = 'Another'", reserved["name"])
    await hire(database, FOUNDER, "more", name=reserved["name"], position=21)


def test_the_seed_can_be_read_as_it_is_spoken() -> None:
    """Names and personas are plain text in the file itself."""
    assert handlers.executives.migrations.__file__ is not None
    seed = Path(handlers.executives.migrations.__file__).with_name("0002_founder.sql").read_text(encoding="utf-8")
    assert seed.isascii()
    assert max(map(len, seed.splitlines())) < 250


async def test_nothing_counts_on_twenty(roster: Roster, database: Database) -> None:
    """A board grows and shrinks by its rows."""
    await database.execute("DELETE FROM subscriber_executives WHERE position > 3")
    assert [one.id for one in await everybody(roster)] == ["ceo", "coo", "cfo"]
    for number in range(40):
        await hire(database, "ann", f"x{number}", position=number)
    assert [one.id for one in await everybody(roster, "ann")] == [f"x{number}" for number in range(40)]


async def test_pages_together_are_the_whole(roster: Roster) -> None:
    """In the same order; beyond the end there is nobody, and the total stays."""
    whole = await everybody(roster)
    pages = [await roster.page(FOUNDER, role=None, status=None, limit=6, offset=at) for at in (0, 6, 12, 18, 24)]
    assert [one for page, _ in pages for one in page] == whole
    assert [len(page) for page, _ in pages] == [6, 6, 6, 2, 0]
    assert {total for _, total in pages} == {20}


async def test_a_role_has_any_case_and_a_status_its_own(roster: Roster, database: Database) -> None:
    """Filters bound the total too, and hold together."""
    await database.execute("UPDATE subscriber_executives SET status = 'away' WHERE executive_id IN ('cfo', 'cto')")
    asked = {("cfo", None): 1, (None, "away"): 2, ("CFO", "away"): 1, ("CEO", "away"): 0, (None, "Away"): 0}
    for (role, status), many in asked.items():
        found, total = await roster.page(FOUNDER, role=role, status=status, limit=100, offset=0)
        assert (len(found), total) == (many, many)


async def test_one_is_found_by_its_id(roster: Roster, database: Database) -> None:
    """If it is the subscriber's own, and can be asked."""
    found = await roster.find(FOUNDER, "ceo")
    assert (found.name, found.role, found.department) == ("Evelyn Marchetti", "CEO", "Executive")
    assert await reason_of(roster.find(FOUNDER, "cxo")) == (404, "executive_unknown")
    assert await reason_of(roster.find("ann", "ceo")) == (404, "executive_unknown")
    await database.execute("UPDATE subscriber_executives SET status = 'away' WHERE executive_id = 'ceo'")
    assert await reason_of(roster.find(FOUNDER, "ceo")) == (409, "executive_away")


async def test_the_ceo_speaks_for_all(roster: Roster, database: Database) -> None:
    """Where there is none, or it is away, the first who is there does."""
    await hire(database, "ann", "head", role="ceo", position=9)
    await hire(database, "ann", "money", role="CFO", position=1)
    await hire(database, "ann", "press", role="CMO", position=2)
    assert (await roster.chair("ann")).id == "head"
    await database.execute("UPDATE subscriber_executives SET status = 'away' WHERE executive_id = 'head'")
    assert (await roster.chair("ann")).id == "money"
    assert (await roster.chair(FOUNDER)).id == "ceo"
    assert await reason_of(roster.chair("bob")) == (404, "executive_unknown")


async def test_while_postgres_is_away_nobody_is_known(tmp_path: Path) -> None:
    """It is not said that there is nobody."""
    async with run_postgres(tmp_path, 5432) as postgres:
        url = postgres.url
    async with open_database(url, SETTINGS) as database:
        assert await reason_of(Roster(database).find(FOUNDER, "ceo")) == (503, "database_unavailable")
