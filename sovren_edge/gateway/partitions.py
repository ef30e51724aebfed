"""Owns the partitions of api_requests: one for each day (UTC), made a week ahead, and dropped when they are too old.

Must not know what is in them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sovren_edge.store.database import Database

PREFIX = "api_requests_"
AHEAD = timedelta(days=7)
# The limiter's last hour is read from here, and some of an hour may still be on its way.
UNTOUCHED = timedelta(hours=2)

_KNOWN = """
SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'api_requests'::regclass
"""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: days that need a partition, and partitions that may go."""

    missing: Sequence[date]
    outdated: Sequence[str]


def due(known: Iterable[str], now: datetime, retention: timedelta) -> Due:
    """Return what is due at a point in time; partitions are `known` by their names."""
    days = {name: day for name in known if (day := _day(name)) is not None}
    today = now.astimezone(UTC).date()
    wanted = [today + timedelta(days=n) for n in range(AHEAD.days + 1)]
    oldest = (now - max(retention, UNTOUCHED)).astimezone(UTC).date()
    missing = [day for day in wanted if day not in days.values()]
    return Due(missing, sorted(name for name, day in days.items() if day < oldest))


def name_of(day: date) -> str:
    """Return the name of a day's partition."""
    return f"{PREFIX}{day:%Y%m%d}"


def _day(name: str) -> date | None:
    try:
        return datetime.strptime(name.removeprefix(PREFIX), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


async def maintain(database: Database, now: datetime, retention: timedelta) -> Due:
    """Make and drop what is due, and return it; raises EdgeError 503 while the database is away."""
    async with database.transaction() as connection:
        # Several gateways may do this at once: one after the other.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sovren_edge api_requests partitions'))")
        found = due([row["relname"] for row in await connection.fetch(_KNOWN)], now, retention)
        for day in found.missing:
            await connection.execute(
                f"CREATE TABLE {name_of(day)} PARTITION OF api_requests "
                f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
            )
        for name in found.outdated:
            await connection.execute(f"DROP TABLE {name}")
    return found
