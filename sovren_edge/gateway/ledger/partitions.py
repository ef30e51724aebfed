"""Owns the partitions of api_requests: one for each day (UTC), made a week ahead, and dropped when they are too old.

What has come for a day before its partition was made stands in the default one, and moves. The ledger writes meanwhile:
no lock is waited for longer than it waits for a group, and none is held over two days. Must not know what is in them.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database

PREFIX = "api_requests_"
AHEAD = timedelta(days=7)
# The limiter's last hour is read from here, and some of an hour may still be on its way.
UNTOUCHED = timedelta(hours=2)
# How often is looked, and how soon again if it could not be done.
EVERY_S, RETRY_S = 3600.0, 60.0

# Several gateways may do this at once: one after the other.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('sovren_edge api_requests partitions'))"
_IMPATIENT = "SET LOCAL lock_timeout = '100ms'"
_KNOWN = """
SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'api_requests'::regclass
"""
# Rows find their partition under the parent's lock, so that none is on its way to the default one meanwhile.
_LOCK = """
LOCK TABLE ONLY api_requests IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE api_requests_default IN ACCESS EXCLUSIVE MODE;
"""
_MAKE = """
CREATE TABLE {name} (LIKE api_requests INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
WITH moved AS (DELETE FROM api_requests_default WHERE created_at >= '{start}' AND created_at < '{end}' RETURNING *)
INSERT INTO {name} SELECT * FROM moved;
ALTER TABLE api_requests ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}');
"""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: days that need a partition, partitions that may go, and the oldest day that may not."""

    missing: Sequence[date]
    outdated: Sequence[str]
    oldest: date


def due(known: Iterable[str], now: datetime, retention: timedelta) -> Due:
    """Return what is due at a point in time; partitions are `known` by their names."""
    days = {name: day for name in known if (day := _day(name)) is not None}
    today = now.astimezone(UTC).date()
    wanted = [today + timedelta(days=n) for n in range(AHEAD.days + 1)]
    oldest = (now - max(retention, UNTOUCHED)).astimezone(UTC).date()
    missing = [day for day in wanted if day not in days.values()]
    return Due(missing, sorted(name for name, day in days.items() if day < oldest), oldest)


def name_of(day: date) -> str:
    """Return the name of a day's partition."""
    return f"{PREFIX}{day:%Y%m%d}"


def _day(name: str) -> date | None:
    try:
        return datetime.strptime(name.removeprefix(PREFIX), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


async def maintain(database: Database, now: datetime, retention: timedelta) -> Due:
    """Make and drop what is due, and return it; raises EdgeError 503 while the database is away, or in use."""
    found = due([row["relname"] for row in await database.fetch(_KNOWN)], now, retention)
    for day in found.missing:
        async with database.transaction() as connection:
            await _make(connection, day)
    for name in found.outdated:
        async with database.transaction() as connection:
            await connection.execute(_ALONE)
            await connection.execute(_IMPATIENT)
            await connection.execute(f"DROP TABLE IF EXISTS {name}")
    oldest = datetime.combine(found.oldest, time(tzinfo=UTC))
    await database.execute("DELETE FROM api_requests_default WHERE created_at < $1", oldest)
    return found


async def _make(connection: Connection, day: date) -> None:
    await connection.execute(_ALONE)
    await connection.execute(_IMPATIENT)
    name = name_of(day)
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
        await connection.execute(_LOCK)
        start, end = _midnight(day), _midnight(day + timedelta(days=1))
        await connection.execute(_MAKE.format(name=name, start=start, end=end))


def _midnight(day: date) -> str:
    return f"{day} 00:00+00"


async def keep(
    database: Database, retention: Callable[[], timedelta], now: Callable[[], datetime], log: FilteringBoundLogger
) -> None:
    """Maintain now and every hour until cancelled; says once that it cannot, and goes on trying."""
    behind = False
    while True:
        try:
            done = await maintain(database, now(), retention())
        except EdgeError as error:
            if not behind:
                log.warning("partitions_behind", why=error.problem.reason)
            behind = True
        else:
            if behind or done.outdated:
                log.info("partitions_maintained", dropped=done.outdated)
            behind = False
        await asyncio.sleep(RETRY_S if behind else EVERY_S)
