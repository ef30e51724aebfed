"""Owns who is alive: each gateway process is an owner, and its name stands in the rows that it has in hand.

An owner registers in PostgreSQL, and holds a lock there for as long as its session lives. Every second it says whether
all that it ever acknowledged is in PostgreSQL (it is clean), and at its end that no more will come (it is closed).

Being clean is dated by moments, not by times: numbers that PostgreSQL hands out in order. An owner takes a moment,
looks at its journal afterwards, and if that is empty says with its next beat that it was clean since then. So whoever
takes a moment `m`, and reads that an owner was clean since a later one, knows that its journal was empty after `m`.

An owner that vanished without an end is waited for, since its journal may hold rows; unless it has not been seen for a
day. In return an owner that has not reached PostgreSQL for a day, or never, calls itself absent: it must not use a
shared limiter. Must not know limiters, nor how rows are written.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.clocks import boot_us
from sovren_edge.gateway.ledger.idempotency import settle_dead
from sovren_edge.gateway.tasks import lasting
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database

BEAT_S = 1.0
SETTLE_S = 5.0
# Some beats may be late.
REACHED_S = 5.0
# An owner whose lock is free may still be about to take it again: for so long after it was seen, or PostgreSQL began.
GONE_S = 60.0
ABSENT_S = 86_400.0
# What it granted until then counts for an hour; one more for clocks that differ.
AWAITED_S = ABSENT_S + 7_200.0
# Owners that nobody can be waiting for.
FORGOTTEN_S = 7 * ABSENT_S

_BEAT = """
INSERT INTO owners (owner) VALUES ($1)
ON CONFLICT (owner) DO UPDATE SET
    seen_at = clock_timestamp(), clean_moment = greatest(owners.clean_moment, $2), closed_at = NULL
RETURNING nextval('owner_moments')
"""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_CLOSE = "UPDATE owners SET closed_at = clock_timestamp() WHERE owner = $1"
_MOMENT = "SELECT nextval('owner_moments')"
_AWAITED = """
SELECT owner FROM owners
WHERE closed_at IS NULL AND clean_moment <= $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)
ORDER BY owner
"""
_FORGET = "DELETE FROM owners WHERE seen_at < clock_timestamp() - make_interval(secs => $1)"
_GONE = """
SELECT open.owner FROM (
    SELECT owner, max(created_at) AS latest FROM (
        SELECT owner, created_at FROM api_requests WHERE settled_at IS NULL
        UNION ALL SELECT owner, created_at FROM idempotency_keys WHERE state = 'running'
    ) AS each WHERE owner <> $1 GROUP BY owner
) AS open LEFT JOIN owners USING (owner)
WHERE owners.closed_at IS NOT NULL
OR greatest(coalesce(owners.seen_at, open.latest), pg_postmaster_start_time())
    < clock_timestamp() - make_interval(secs => $2)
"""
_LOCK_IS_FREE = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"
_SETTLE = """
UPDATE api_requests SET decision = 'unknown', reason = 'owner_gone', settled_at = clock_timestamp()
WHERE owner = $1 AND settled_at IS NULL
"""


def now_s() -> float:
    """Return seconds of a clock that runs on while the machine sleeps."""
    return boot_us() / 1e6


class Owners:
    """This process among the owners; made by `open_owners`."""

    def __init__(self, database: Database, name: str, clean: Callable[[], bool], log: FilteringBoundLogger) -> None:
        self._database = database
        self.name = name
        self._clean = clean
        self._log = log
        self._moment = 0
        self._seen_s: float | None = None

    @property
    def absent(self) -> bool:
        """Whether others may take this process for gone, or have never heard of it."""
        return not self._seen_within(ABSENT_S)

    @property
    def reached(self) -> bool:
        """Whether PostgreSQL has answered in the last seconds."""
        return self._seen_within(REACHED_S)

    def _seen_within(self, seconds: float) -> bool:
        return self._seen_s is not None and now_s() - self._seen_s <= seconds

    async def moment(self) -> int:
        """Return a number that is greater than any before; raises EdgeError 503 while PostgreSQL is away."""
        moment: int = await self._database.fetchval(_MOMENT)
        return moment

    async def awaited(self, moment: int) -> list[str]:
        """Return the owners that may know of rows from before a moment which PostgreSQL lacks; raises EdgeError 503."""
        rows = await self._database.fetch(_AWAITED, moment, AWAITED_S)
        return [row["owner"] for row in rows]

    async def settle(self) -> None:
        """Settle the rows of owners that are gone, whose outcome nobody knows; raises EdgeError 503."""
        for row in await self._database.fetch(_GONE, self.name, GONE_S):
            async with self._database.transaction() as connection:
                if await connection.fetchval(_LOCK_IS_FREE, row["owner"]):
                    done = await connection.execute(_SETTLE, row["owner"])
                    await settle_dead(connection, row["owner"])
                    self._log.warning("requests_unknown", owner=row["owner"], count=int(done.split()[-1]))

    async def live(self) -> None:
        """Be registered and locked, and say whether all is clean, until cancelled."""
        while True:
            with suppress(EdgeError):
                async with self._database.session() as session:
                    await self._live(session)
            await asyncio.sleep(BEAT_S)

    async def _live(self, session: Connection) -> None:
        locked = False
        while True:
            # A lost session of ours may hold it for a while yet.
            locked = locked or await session.fetchval(_LOCK, self.name)
            await self.beat(session)
            await asyncio.sleep(BEAT_S)

    async def beat(self, session: Connection) -> None:
        """Say once that this process lives, and whether it is clean."""
        began_s, since = now_s(), self._moment if self._clean() else 0
        self._moment = await session.fetchval(_BEAT, self.name, since)
        self._seen_s = began_s

    async def settle_now_and_then(self) -> None:
        """Settle what others have left behind, until cancelled."""
        while True:
            with suppress(EdgeError):
                await self.settle()
                await self._database.execute(_FORGET, FORGOTTEN_S)
            await asyncio.sleep(SETTLE_S)

    async def close(self) -> None:
        """Say that no more rows will come, if all are in PostgreSQL."""
        if self._clean():
            with suppress(EdgeError):
                await self._database.execute(_CLOSE, self.name)


@asynccontextmanager
async def open_owners(
    database: Database, name: str, clean: Callable[[], bool], log: FilteringBoundLogger
) -> AsyncIterator[Owners]:
    """Be an owner until the block ends; PostgreSQL may be away at any time.

    `clean` tells whether all rows that were ever acknowledged here are in PostgreSQL. No more come after the block.
    """
    owners = Owners(database, name, clean, log)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(lasting(job, log)) for job in (owners.live, owners.settle_now_and_then)]
        try:
            yield owners
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await owners.close()
