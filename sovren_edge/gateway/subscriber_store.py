"""Owns how subscribers stand in the database, for whoever adds, lists, changes and removes them.

Must not know who asks, nor what is kept of them in memory.
"""

from collections.abc import Sequence

from sovren_edge.store.connection import Row
from sovren_edge.store.database import Database

_ROW = "SELECT subscriber_id AS subscriber, hourly_limit, created_at FROM subscribers"
_FIND = f"{_ROW} WHERE subscriber_id = $1"
_LIST = f"{_ROW} ORDER BY subscriber_id"
_ADD = """
INSERT INTO subscribers (subscriber_id, hourly_limit) VALUES ($1, $2)
ON CONFLICT (subscriber_id) DO UPDATE SET hourly_limit = coalesce(excluded.hourly_limit, subscribers.hourly_limit)
"""
_LIMIT = "UPDATE subscribers SET hourly_limit = $2 WHERE subscriber_id = $1 RETURNING true"
_REMOVE = "DELETE FROM subscribers WHERE subscriber_id = $1 RETURNING true"


async def find_subscriber(on: Database, subscriber: str) -> Row | None:
    """Return a subscriber's row, if it is one; `hourly_limit` is None where it is everybody's."""
    return await on.fetchrow(_FIND, subscriber)


async def list_subscribers(on: Database) -> Sequence[Row]:
    """Return all rows, by their names."""
    return await on.fetch(_LIST)


async def add_subscriber(on: Database, subscriber: str, hourly_limit: int | None) -> None:
    """Make sure that it is a subscriber; a limit is set, None leaves one that is there."""
    await on.execute(_ADD, subscriber, hourly_limit)


async def limit_subscriber(on: Database, subscriber: str, hourly_limit: int | None) -> bool:
    """Set a limit, or everybody's; return whether there is such a subscriber."""
    return bool(await on.fetchval(_LIMIT, subscriber, hourly_limit))


async def remove_subscriber(on: Database, subscriber: str) -> bool:
    """Remove a subscriber, and nothing that was recorded of it; return whether there was one."""
    return bool(await on.fetchval(_REMOVE, subscriber))
