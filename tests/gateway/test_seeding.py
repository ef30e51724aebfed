"""What a limiter is told of the last hour; with a real PostgreSQL and real journals."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from uuid import uuid4

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.journal import leftovers, open_journal
from sovren_edge.gateway.ledger.ledger import apply
from sovren_edge.gateway.ledger.rows import RequestRow, encode
from sovren_edge.gateway.limit import seeding
from sovren_edge.gateway.limit.limiter import Granted, Limiter, NotSeeded
from sovren_edge.gateway.limit.seeding import LONGEST, Present, Seed, grant_id, read_seeds, seed_local
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.reserving import reserved

HOUR_US = 3_600_000_000
NOW_US = 1_000_000_000_000
AWAY = "postgresql://postgres@/postgres?host=%2Fnonexistent"
SETTINGS = DatabaseSettings(timeout_s=2.0)
LOG = structlog.get_logger()
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(seeding, "RETRY_S", 0.001)


@pytest.fixture
async def database(gateway_url: str) -> AsyncIterator[Database]:
    """Open the database."""
    async with open_database(gateway_url, SETTINGS) as database:
        yield database


async def nothing_left() -> bool:
    """Adopt nothing."""
    return True


async def read(database: Database, present: Present) -> list[Seed]:
    """Read all that is told."""
    return [seed async for page in read_seeds(database, present, HOUR_US) for seed in page]


async def test_what_was_granted_is_told_by_the_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt once, without those refunded, those of another time, and rows that needed no grant."""
    monkeypatch.setattr(seeding, "PAGE", 2)
    now = datetime.now(UTC)
    rows = [reserved(granted_us=(NOW_US - 9, None, NOW_US - number), created_at=now) for number in range(4)]
    over = reserved(granted_us=(NOW_US - HOUR_US - 5, NOW_US - HOUR_US), created_at=now)
    refunded = reserved(granted_us=(None, None), created_at=now)
    refused = replace(reserved(granted_us=()), decision="refused", settled_at=now)
    old = reserved(created_at=now - timedelta(hours=3), granted_us=(NOW_US,))
    await apply(database, [encode(row) for row in (*rows, over, refunded, refused, old)])
    told = await read(database, Present("boot", NOW_US, now))
    expected = [
        Seed("founder", grant_id(row.request_id, attempt), at_us)
        for row in rows
        for attempt, at_us in enumerate(row.granted_us)
        if at_us is not None
    ]
    assert sorted(told, key=repr) == sorted(expected, key=repr)


async def test_times_of_another_clock_go_by_the_wall_clock(database: Database) -> None:
    """As late as they can have been, and not later than now."""
    now = datetime.now(UTC)
    made = now - timedelta(minutes=30)
    old = reserved(granted_us=(5, 7), clock="boot:other", created_at=made)
    new = reserved(granted_us=(9,), clock="redis", created_at=now - timedelta(seconds=1))
    early = reserved(granted_us=(11,), clock="", created_at=now + timedelta(hours=1))
    await apply(database, [encode(row) for row in (old, new, early)])
    told = {seed.grant_id: seed.at_us for seed in await read(database, Present("boot", NOW_US, now))}
    upper_us = NOW_US - (now - made - LONGEST) // timedelta(microseconds=1)
    assert told == {
        grant_id(old.request_id, 0): upper_us,
        grant_id(old.request_id, 1): upper_us,
        grant_id(new.request_id, 0): NOW_US,
        grant_id(early.request_id, 0): NOW_US,
    }


async def test_nothing_is_granted_while_postgres_is_away(database: Database, tmp_path: Path) -> None:
    """What stands in a journal is not all; once PostgreSQL answers, both are known."""
    await apply(database, [encode(reserved(granted_us=(NOW_US - 1,)))])
    with open_journal(tmp_path / "dead.journal", owner="dead:1", size=1 << 20) as journal:
        journal.append([encode(reserved(granted_us=(NOW_US - 2,)))])
    limiter = Limiter(lambda: 3, HOUR_US)
    clock = SimpleNamespace(us=NOW_US)
    async with open_database(AWAY, SETTINGS) as away:
        adoption = Adoption(tmp_path, away, LOG)
        waiting = asyncio.create_task(seed(limiter, away, adoption, clock))
        await asyncio.sleep(0.05)
        assert limiter.grant("founder", "a", NOW_US) == NotSeeded()
        waiting.cancel()
        await asyncio.wait({waiting})
    await seed(limiter, database, Adoption(tmp_path, database, LOG), clock)
    assert limiter.look("founder", NOW_US).used == 2
    assert isinstance(limiter.grant("founder", "a", NOW_US), Granted)


async def seed(limiter: Limiter, database: Database, adoption: Adoption, clock: SimpleNamespace) -> None:
    """Seed with a clock of the test's own."""
    await seed_local(limiter, database, adoption.adopt, window_us=HOUR_US, clock="boot", now_us=lambda: clock.us)


async def test_after_an_hour_nothing_is_left_to_be_forgotten(tmp_path: Path) -> None:
    """On the limiter's own clock, and not before."""
    limiter, clock = Limiter(lambda: 3, HOUR_US), SimpleNamespace(us=NOW_US)
    async with open_database(AWAY, SETTINGS) as away:
        waiting = asyncio.create_task(seed(limiter, away, Adoption(tmp_path, away, LOG), clock))
        for step_us in (0, HOUR_US // 2, HOUR_US // 2 - 1):
            clock.us += step_us
            await asyncio.sleep(0.02)
            assert not limiter.seeded
        clock.us += 1
        await asyncio.wait_for(waiting, 10)
    assert limiter.seeded


async def test_an_answer_that_breaks_off_is_asked_for_again(gateway_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was told twice counts once."""
    monkeypatch.setattr(seeding, "PAGE", 1)
    rows = [reserved(granted_us=(NOW_US - number,), clock=f"boot{number % 2 or ''}") for number in range(40)]
    limiter = Limiter(lambda: 100, HOUR_US)
    tries = 0

    async def count() -> bool:
        nonlocal tries
        tries += 1
        return True

    async with open_database(gateway_url, SETTINGS) as database, open_database(gateway_url, SETTINGS) as other:
        await apply(database, [encode(row) for row in rows])
        reading = asyncio.create_task(
            seed_local(limiter, database, count, window_us=HOUR_US, clock="boot", now_us=lambda: NOW_US)
        )
        while tries < 3:
            await other.execute(END_OTHERS)
        await asyncio.wait_for(reading, 30)
    assert limiter.look("founder", NOW_US).used == 40


# --- restarts

LIMIT = 5
STEPS_US = [0, 1, HOUR_US // 7, HOUR_US // 3, HOUR_US - 1, HOUR_US]


@dataclass(frozen=True)
class Life:
    """One process: what it is asked, each with the step of the clock ahead, then how it ends."""

    asked: list[tuple[int, str]]
    postgres: bool
    refused_start: bool


lives = st.lists(
    st.builds(
        Life,
        st.lists(st.tuples(st.sampled_from(STEPS_US), st.sampled_from(["send", "refund", "twice"])), max_size=12),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


class History:
    """Lives of one gateway after another; rows go to PostgreSQL, or to the journal while that is away."""

    def __init__(self, folder: Path, database: Database, away: Database) -> None:
        self.folder = folder
        self.database = database
        self.away = away
        self.clock = SimpleNamespace(us=NOW_US)
        self.sent_us: list[int] = []

    async def live(self, life: Life) -> None:
        """Start, serve and be killed."""
        limiter = Limiter(lambda: LIMIT, HOUR_US)
        if life.refused_start:
            task = asyncio.create_task(seed(limiter, self.away, Adoption(self.folder, self.away, LOG), self.clock))
            await asyncio.sleep(0.003)
            task.cancel()
            await asyncio.wait({task})
            assert not limiter.seeded
            return
        await seed(limiter, self.database, Adoption(self.folder, self.database, LOG), self.clock)
        path = self.folder / f"{uuid4()}.journal"
        with open_journal(path, owner=path.stem, size=1 << 16) as journal:

            async def write(row: RequestRow) -> None:
                if life.postgres:
                    await apply(self.database, [encode(row)])
                else:
                    journal.append([encode(row)])

            for step_us, what in life.asked:
                self.clock.us += step_us
                await self.ask(limiter, what, write)

    async def ask(self, limiter: Limiter, what: str, write: Callable[[RequestRow], Awaitable[None]]) -> None:
        """Ask for one request: it is sent once or twice, or its connection fails and it is refunded."""
        row = reserved(granted_us=(), request_id=uuid4())
        for attempt in range(1 + (what == "twice")):
            name = grant_id(row.request_id, attempt)
            granted = limiter.grant("founder", name, self.clock.us)
            if not isinstance(granted, Granted):
                return
            row = replace(row, granted_us=(*row.granted_us, granted.at_us), attempts=attempt + 1)
            await write(row)
            if what == "refund":
                limiter.refund("founder", name)
                await write(replace(row, granted_us=(None,), decision="settled", settled_at=datetime.now(UTC)))
            else:
                self.sent_us.append(granted.at_us)
                limiter.settle("founder", name)

    def check(self) -> None:
        """No window held more than the limit."""
        times = sorted(self.sent_us)
        assert all(later - first >= HOUR_US for first, later in zip(times, times[LIMIT:], strict=False))


@asynccontextmanager
async def history_of(database: Database) -> AsyncIterator[History]:
    """Begin with nothing."""
    await database.execute("TRUNCATE api_requests")
    async with open_database(AWAY, SETTINGS) as away:
        with TemporaryDirectory() as folder:
            yield History(Path(folder), database, away)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(lives=lives)
async def test_a_restart_forgets_nothing(database: Database, lives: list[Life]) -> None:
    """Whether rows went to PostgreSQL or to a journal, and whether it was there at a start."""
    async with history_of(database) as history:
        for life in lives:
            await history.live(life)
        history.check()
        everything = Limiter(lambda: 100, HOUR_US)
        await seed(everything, database, Adoption(history.folder, database, LOG), history.clock)
        counted = [at_us for at_us in history.sent_us if at_us > history.clock.us - HOUR_US]
        assert everything.look("founder", history.clock.us).used == len(counted)
        assert leftovers(history.folder) == []
