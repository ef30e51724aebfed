"""Owns what a question about usage means: its period, its time zone, and where a page begins.

Must not know requests, clocks or databases: the present is handed in.
"""

import base64
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import orjson

from sovren_edge.gateway.usage.buckets import Granularity, buckets, day_of

Group = Literal["service", "status"]

# Every time zone can tell these.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)

_CURSOR = "cursor: the next_cursor of a page, with all else as it was"
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the series: its bucket's start, and the service and the status that it is of ("" and 0 for all)."""

    start: datetime
    service: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """A question: from `since` until just before `until`, in UTC; `after` is the last row of the page before."""

    since: datetime
    until: datetime
    zone: ZoneInfo
    granularity: Granularity
    groups: frozenset[Group]
    after: Key | None = None

    def buckets(self) -> list[datetime]:
        """Return where each bucket of the period begins; ValueError: too many, or none where the cursor is."""
        found = buckets(self.since, self.until, self.granularity, self.zone)
        if self.after is not None and self.after.start not in found:
            raise ValueError(_CURSOR)
        return found

    def cursor(self, last: Key) -> str:
        """Return what asks for the rows after this one, of the same period."""
        times = [_to_us(self.since), _to_us(self.until), _to_us(last.start)]
        return base64.urlsafe_b64encode(orjson.dumps([*times, last.service, last.status])).decode().rstrip("=")


def read_zone(name: str, known: Collection[str]) -> ZoneInfo:
    """Return a time zone; ValueError if there is none of this name."""
    if name not in known:
        raise ValueError("tz: the name of a time zone, as in Europe/Berlin")
    return ZoneInfo(name)


def read_terms(
    *,
    now: datetime,
    since: datetime | None,
    until: datetime | None,
    cursor: str | None,
    zone: ZoneInfo,
    granularity: Granularity,
    groups: frozenset[Group],
) -> Terms:
    """Return what is meant; ValueError says what is wrong.

    Times without an offset are the zone's. Left out, `until` is the present, and `since` the beginning of the day that
    `until` is in, or ends. A cursor brings the period of its page.
    """
    after = None
    if cursor is None:
        until = now if until is None else _in(zone, until, "to")
        since = day_of(until - _MICROSECOND, zone) if since is None else _in(zone, since, "from")
    elif since is not None or until is not None:
        raise ValueError("cursor: given without from and to, which it brings")
    else:
        since, until, after = _read_cursor(cursor)
    if since >= until:
        raise ValueError("from: a time before to")
    return Terms(since, until, zone, granularity, groups, after)


def _in(zone: ZoneInfo, moment: datetime, name: str) -> datetime:
    placed = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    # Compared as they are written: at the ends of the calendar, a time cannot be told in another zone.
    if not EARLIEST.year <= placed.year < LATEST.year:
        raise ValueError(f"{name}: a year from {EARLIEST.year} to {LATEST.year - 1}")
    return placed.astimezone(UTC)


def _read_cursor(text: str) -> tuple[datetime, datetime, Key]:
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        since_us, until_us, start_us, service, status = parts
        return _from_us(since_us), _from_us(until_us), Key(_from_us(start_us), _checked(service), range(1000)[status])
    except (ValueError, TypeError, LookupError, OverflowError):
        raise ValueError(_CURSOR) from None


def _checked(service: str) -> str:
    # PostgreSQL has no text with a zero byte.
    if "\0" in service:
        raise ValueError
    return str(service)


def _to_us(moment: datetime) -> int:
    return (moment - EARLIEST) // _MICROSECOND


def _from_us(moment_us: int) -> datetime:
    moment = EARLIEST + timedelta(microseconds=moment_us)
    if not EARLIEST - timedelta(days=2) <= moment < LATEST:
        raise ValueError
    return moment
