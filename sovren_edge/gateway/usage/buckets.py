"""Owns the hours and days that usage is told by, in any time zone: points in time, ascending, each the start of one.

An hour has sixty minutes whatever the wall clock does to it, and begins where the wall clock shows a full one. A day
begins with its date, and lasts as long as that does: 23 hours, or 25, or none. Must not know requests or databases.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal
from zoneinfo import ZoneInfo

Granularity = Literal["hour", "day"]

# More than a year of hours.
MOST = 10_000

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def buckets(since: datetime, until: datetime, granularity: Granularity, zone: ZoneInfo) -> list[datetime]:
    """Return where each bucket begins that holds some of a period, in UTC; ValueError if they are more than MOST."""
    # The period's length tells, so that no more of them are made than may be.
    if (until - since) / (_HOUR if granularity == "hour" else _DAY) > MOST - 2:
        raise ValueError(f"from: a time that is no more than {MOST} {granularity}s before to")
    starts = _hours(since, zone) if granularity == "hour" else _days(since, zone)
    return list(takewhile(lambda start: start < until, starts))


def day_of(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return where the day begins that a moment lies in, in UTC."""
    return next(_days(moment, zone))


def _hours(since: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    moment = since.astimezone(UTC)
    while True:
        local = moment.astimezone(zone)
        moment -= timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        yield moment
        moment += _HOUR


def _days(since: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    date = since.astimezone(zone).date()
    last = None
    while True:
        # Where there is no midnight, this is the moment at which the clocks skip it.
        start = datetime(date.year, date.month, date.day, tzinfo=zone).astimezone(UTC)
        # A zone that changed its side of the date line has had a day that did not happen.
        if last is None or start > last:
            yield start
        last = start
        date += _DAY
