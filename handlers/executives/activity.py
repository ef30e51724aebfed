"""Owns what executives have done for a subscriber.

Must not know what was said. Every query is bounded by a subscriber.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from sovren_edge.handler import Connection, Database

# To be completed by what stands for these columns.
NOTE = "INSERT INTO executive_activity (subscriber_id, executive_id, action, happened_at, metadata) VALUES ({})"
_NOTE = NOTE.format("$1, $2, $3, $4, $5")
_OF = """
FROM executive_activity AS activity
LEFT JOIN subscriber_executives AS executive USING (subscriber_id, executive_id)
WHERE activity.subscriber_id = $1 AND ($2::text IS NULL OR activity.executive_id = $2)
    AND ($3::text IS NULL OR activity.action = $3)
    AND ($4::timestamptz IS NULL OR activity.happened_at >= $4)
    AND ($5::timestamptz IS NULL OR activity.happened_at < $5)
"""
_PAGE = f"""
SELECT activity_id, executive_id, executive.name, action, happened_at, metadata {_OF}
ORDER BY happened_at DESC, activity_id DESC LIMIT $6 OFFSET $7
"""
_COUNT = f"SELECT count(*) {_OF}"


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that was done; `executive_name` is the id of one who has gone."""

    id: int
    executive_id: str
    executive_name: str
    action: str
    happened_at: datetime
    metadata: Mapping[str, Any]


async def note(
    on: Database | Connection,
    subscriber: str,
    executive_id: str,
    action: str,
    *,
    at: datetime,
    metadata: Mapping[str, object],
) -> None:
    """Note that something was done; raises EdgeError 503 while the database is away."""
    await on.execute(_NOTE, subscriber, executive_id, action, at, orjson.dumps(metadata).decode())


class Activities:
    """The activities in the database; every call raises EdgeError 503 while it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        subscriber: str,
        *,
        executive_id: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int,
        offset: int,
    ) -> tuple[Sequence[Activity], int]:
        """Return a part of what was done from `since` on and before `until`, the newest first, and how much it is."""
        asked = (subscriber, executive_id, action, since, until)
        rows = await self._database.fetch(_PAGE, *asked, limit, offset)
        total: int = await self._database.fetchval(_COUNT, *asked)
        return [_activity(row) for row in rows], total


def _activity(row: Mapping[str, Any]) -> Activity:
    return Activity(
        id=row["activity_id"],
        executive_id=row["executive_id"],
        executive_name=row["name"] or row["executive_id"],
        action=row["action"],
        happened_at=row["happened_at"],
        metadata=orjson.loads(row["metadata"]),
    )
