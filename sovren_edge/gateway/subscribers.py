"""Owns who may call, and whose hourly limit is not everybody's.

Must not know how limits are kept. While PostgreSQL is away, those who are known go on being known.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.coalescing import Spawn
from sovren_edge.gateway.handing import PAGE_ROWS, Page
from sovren_edge.gateway.reread import Reread
from sovren_edge.handler import Identity
from sovren_edge.store.database import Database

FOUNDER = "founder"
SUBSCRIBER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A change is in force within this; what is kept is some 200 bytes each.
FRESH_S, MOST = 30.0, 200_000

_READ = "SELECT coalesce(hourly_limit, 0) FROM subscribers WHERE subscriber_id = $1"
_FOUNDER = """
INSERT INTO subscribers (subscriber_id, hourly_limit) VALUES ($1, $2)
ON CONFLICT (subscriber_id) DO UPDATE SET hourly_limit = excluded.hourly_limit
WHERE subscribers.hourly_limit IS DISTINCT FROM excluded.hourly_limit
"""


def mismatched() -> EdgeError:
    """Return the error of a caller whose token is another subscriber's."""
    return EdgeError(403, "subscriber_mismatch", "The token does not name this subscriber.", side=Side.CALLER)


class Subscribers:
    """Knows subscribers as they stand in the database."""

    def __init__(self, database: Database, spawn: Spawn, now_s: Callable[[], float]) -> None:
        self._database = database
        self._limits: dict[str, int] = {}
        self._known: Reread[str, bool] = Reread(self._read, spawn, now_s, fresh_s=FRESH_S, most=MOST)

    @property
    def limits(self) -> Mapping[str, int]:
        """The hourly limits that are not everybody's, of those who have called; it changes as they do."""
        return self._limits

    async def admit(self, identity: Identity, subscriber: str) -> None:
        """Return if a caller may act for a known subscriber; raises EdgeError: 403, 404, or 503 if nobody can tell."""
        if not identity.may_act_for(subscriber):
            raise mismatched()
        if SUBSCRIBER_ID.fullmatch(subscriber) is None or not await self._known.get(subscriber):
            raise EdgeError(404, "unknown_subscriber", "There is no such subscriber.", side=Side.CALLER)

    async def add_founder(self, hourly_limit: int | None) -> None:
        """Make sure that the founder is a subscriber, with a limit of his own or everybody's; raises EdgeError 503."""
        self._limit(FOUNDER, hourly_limit)
        await self._database.execute(_FOUNDER, FOUNDER, hourly_limit)

    async def _read(self, subscriber: str) -> bool:
        limit = await self._database.fetchval(_READ, subscriber)
        self._limit(subscriber, limit)
        return limit is not None

    def _limit(self, subscriber: str, hourly_limit: int | None) -> None:
        if hourly_limit:
            self._limits[subscriber] = hourly_limit
        else:
            self._limits.pop(subscriber, None)

    def pages(self) -> Iterator[Page]:
        """Yield who is a subscriber, and at which limit, for a process that cannot ask PostgreSQL."""
        known = [subscriber for subscriber, is_one in self._known.items() if is_one]
        for first in range(0, len(known), PAGE_ROWS):
            names = known[first : first + PAGE_ROWS]
            yield Page({"subscribers": names, "limits": [self._limits.get(name) for name in names]})

    def take(self, page: Page) -> None:
        """Know them, until they are read."""
        for subscriber, limit in zip(page.given["subscribers"], page.given["limits"], strict=True):
            self._limit(subscriber, limit)
            self._known.give(subscriber, value=True)
