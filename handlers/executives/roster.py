"""Owns who stands at a subscriber's side.

Must not know what executives say. Every query is bounded by a subscriber: nobody sees another's executives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sovren_edge.handler import Database, EdgeError, Side

# Who speaks for all where nobody is named.
CHAIR = "CEO"
ACTIVE = "active"

_COLUMNS = "executive_id, name, role, department, status, capabilities, voice, persona"
_OF = """
FROM subscriber_executives
WHERE subscriber_id = $1 AND ($2::text IS NULL OR upper(role) = upper($2)) AND ($3::text IS NULL OR status = $3)
"""
_PAGE = f"SELECT {_COLUMNS} {_OF} ORDER BY position, executive_id LIMIT $4 OFFSET $5"
_COUNT = f"SELECT count(*) {_OF}"
_FIND = f"SELECT {_COLUMNS} FROM subscriber_executives WHERE subscriber_id = $1 AND executive_id = $2"  # noqa: S608 - no input
_CHAIR = f"""
SELECT {_COLUMNS} FROM subscriber_executives WHERE subscriber_id = $1 AND status = $2
ORDER BY upper(role) <> $3, position, executive_id LIMIT 1
"""  # noqa: S608 - no input


@dataclass(frozen=True, slots=True)
class Executive:
    """One of them; `voice` is as speech engines know it, `persona` what a model is told of who it is."""

    id: str
    name: str
    role: str
    department: str
    status: str
    capabilities: tuple[str, ...]
    voice: str
    persona: str


class Roster:
    """The executives in the database; every call raises EdgeError 503 while it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, subscriber: str, *, role: str | None, status: str | None, limit: int, offset: int
    ) -> tuple[Sequence[Executive], int]:
        """Return a part of a subscriber's executives in their order, and how many there are; a role has any case."""
        rows = await self._database.fetch(_PAGE, subscriber, role, status, limit, offset)
        total: int = await self._database.fetchval(_COUNT, subscriber, role, status)
        return [_executive(row) for row in rows], total

    async def find(self, subscriber: str, executive_id: str) -> Executive:
        """Return one that can be asked; EdgeError 404 if there is none, 409 if it is away."""
        row = await self._database.fetchrow(_FIND, subscriber, executive_id)
        if row is None:
            raise EdgeError(404, "executive_unknown", "You have no executive of this id.", side=Side.CALLER)
        if row["status"] != ACTIVE:
            raise EdgeError(409, "executive_away", "This executive cannot be asked at present.", side=Side.CALLER)
        return _executive(row)

    async def chair(self, subscriber: str) -> Executive:
        """Return who speaks for all: the CEO, or where there is none, the first; EdgeError 404 if there is nobody."""
        row = await self._database.fetchrow(_CHAIR, subscriber, ACTIVE, CHAIR)
        if row is None:
            raise EdgeError(404, "executive_unknown", "No executive of this subscriber can speak.", side=Side.CALLER)
        return _executive(row)


def _executive(row: Mapping[str, Any]) -> Executive:
    return Executive(
        id=row["executive_id"],
        name=row["name"],
        role=row["role"],
        department=row["department"],
        status=row["status"],
        capabilities=tuple(row["capabilities"]),
        voice=row["voice"],
        persona=row["persona"],
    )
