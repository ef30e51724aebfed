"""Owns how a limiter learns what was granted before it was there: from the rows of api_requests.

Times of the limiter's own clock are taken as they are. A time of another clock, such as that of the boot before, cannot
be compared: it is replaced by the latest that it can have been, going by the wall clock, so nothing is forgotten too
early. Must not know who grants or writes rows; those that stand in journals must have been brought to PostgreSQL.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.frames import JournalError
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.store.connection import Row
from sovren_edge.store.database import Database

# Rows are read from so long ago as retention leaves them: the wall clock may have been set by an hour meanwhile.
READ = timedelta(hours=2)
# The last attempt of a request is granted within this after its row was made.
LONGEST = timedelta(minutes=5)
PAGE = 1000
RETRY_S = 1.0

_PAGE = """
SELECT created_at, request_id, subscriber_id, granted_us, clock FROM api_requests
WHERE created_at >= $1 AND (created_at, request_id) > ($1, $2) AND granted_us <> '{}'
AND (clock <> $3 OR coalesce(granted_us[cardinality(granted_us)] > $4, true))
ORDER BY created_at, request_id LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class Present:
    """One moment, in microseconds of a clock that has a name, and by the wall clock."""

    clock: str
    now_us: int
    wall: datetime


@dataclass(frozen=True, slots=True)
class Seed:
    """A grant that was made, and when, by the clock of a Present."""

    subscriber: str
    grant_id: str
    at_us: int


def grant_id(request_id: UUID, attempt: int) -> str:
    """Return the name of the grant of a request's attempt, counted from 0."""
    return f"{request_id}.{attempt}"


def seeds_of(row: Row, present: Present) -> Iterator[Seed]:
    """Yield a row's grants; those that were refunded have no time."""
    foreign_us = None if row["clock"] == present.clock else _latest_us(row, present)
    for attempt, at_us in enumerate(row["granted_us"]):
        if at_us is not None:
            name = grant_id(row["request_id"], attempt)
            yield Seed(row["subscriber_id"], name, at_us if foreign_us is None else foreign_us)


def _latest_us(row: Row, present: Present) -> int:
    """Return the latest time at which a row's grants can have been made, at most the present."""
    age: timedelta = present.wall - (row["created_at"] + LONGEST)
    return present.now_us - max(age, timedelta(0)) // timedelta(microseconds=1)


async def read_seeds(database: Database, present: Present, window_us: int) -> AsyncIterator[list[Seed]]:
    """Yield what was granted within a window before the present, and some that is older; raises EdgeError 503."""
    after, last = present.wall - READ, UUID(int=0)
    while True:
        page = await database.fetch(_PAGE, after, last, present.clock, present.now_us - window_us, PAGE)
        yield [seed for row in page for seed in seeds_of(row, present)]
        if len(page) < PAGE:
            return
        after, last = page[-1]["created_at"], page[-1]["request_id"]


async def seed_local(
    limiter: Limiter,
    database: Database,
    adopt: Callable[[], Awaitable[bool]],
    *,
    window_us: int,
    clock: str,
    now_us: Callable[[], int],
) -> None:
    """Seed the limiter of this process, and return once it grants.

    `adopt` brings what earlier processes left in journals to PostgreSQL, and tells whether that is done. Until
    PostgreSQL has answered nothing is granted; but when a window has passed, nothing is left to be forgotten.
    """
    # The same for each try: a grant that is told twice must have one time.
    present = Present(clock, now_us(), datetime.now(UTC))
    while now_us() < present.now_us + window_us:
        with suppress(EdgeError, JournalError):
            if await adopt():
                async for seeds in read_seeds(database, present, window_us):
                    for seed in seeds:
                        limiter.seed(seed.subscriber, seed.grant_id, seed.at_us, now_us())
                break
        await asyncio.sleep(RETRY_S)
    limiter.finish_seeding()
