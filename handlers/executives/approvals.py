"""Owns what waits for a subscriber's consent, and how it is decided: once, by whom, and when.

Must not know who proposes, nor what follows from a decision. Every query is bounded by a subscriber.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4

from handlers.executives.activity import note
from handlers.executives.proposal import Proposal, Risk
from handlers.executives.roster import Executive
from sovren_edge.handler import Connection, Database, EdgeError, Side

Decision = Literal["approve", "reject"]
_DONE: Mapping[Decision, str] = {"approve": "approval_approved", "reject": "approval_rejected"}

_FROM = """
FROM executive_approvals AS approval
LEFT JOIN subscriber_executives AS executive USING (subscriber_id, executive_id)
"""
_PENDING = "WHERE approval.subscriber_id = $1 AND approval.decision IS NULL AND approval.expires_at > $2"
_PAGE = f"SELECT approval.*, executive.name {_FROM} {_PENDING} ORDER BY expires_at, approval_id LIMIT $3 OFFSET $4"
_COUNT = f"SELECT count(*) FROM executive_approvals AS approval {_PENDING}"  # noqa: S608 - no input
_FIND = f"SELECT approval.*, executive.name {_FROM} WHERE approval.subscriber_id = $1 AND approval.approval_id = $2"
_PROPOSE = """
INSERT INTO executive_approvals
    (approval_id, subscriber_id, executive_id, action, type, value, currency, risk, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
# Of two who decide at once, one does.
_DECIDE = """
UPDATE executive_approvals SET decision = $3, decided_by = $4, decided_at = $5, reason = $6
WHERE subscriber_id = $1 AND approval_id = $2 AND decision IS NULL AND expires_at > $5
RETURNING executive_id
"""


@dataclass(frozen=True, slots=True)
class Approval:
    """One of them; `decision` and what belongs to it are None while it waits. `executive_name` may be an id."""

    id: UUID
    executive_id: str
    executive_name: str
    action: str
    type: str
    value: Decimal | None
    currency: str | None
    risk: Risk
    created_at: datetime
    expires_at: datetime
    decision: Decision | None
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None


def make_approval(executive: Executive, proposal: Proposal, now: datetime) -> Approval:
    """Return what asks for consent from now on, once it is written."""
    return Approval(
        id=uuid4(),
        executive_id=executive.id,
        executive_name=executive.name,
        action=proposal.action,
        type=proposal.type,
        value=proposal.value,
        currency=proposal.currency,
        risk=proposal.risk,
        created_at=now,
        expires_at=now + timedelta(hours=proposal.expires_in_hours),
        decision=None,
        decided_by=None,
        decided_at=None,
        reason=None,
    )


async def write_approval(connection: Connection, subscriber: str, approval: Approval) -> None:
    """Have it wait for the subscriber's decision; the connection is within a transaction."""
    await connection.execute(
        _PROPOSE, approval.id, subscriber, approval.executive_id, approval.action, approval.type, approval.value,
        approval.currency, approval.risk, approval.created_at, approval.expires_at,
    )  # fmt: skip
    told = {"approvalId": str(approval.id)}
    await note(
        connection, subscriber, approval.executive_id, "approval_proposed", at=approval.created_at, metadata=told
    )


class Approvals:
    """The approvals in the database; every call raises EdgeError 503 while it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(
        self, subscriber: str, now: datetime, *, limit: int, offset: int
    ) -> tuple[Sequence[Approval], int]:
        """Return a part of what waits, the first to expire first, and how much it is."""
        rows = await self._database.fetch(_PAGE, subscriber, now, limit, offset)
        total: int = await self._database.fetchval(_COUNT, subscriber, now)
        return [_approval(row) for row in rows], total

    async def decide(
        self, subscriber: str, approval_id: UUID, decision: Decision, reason: str, *, by: str, now: datetime
    ) -> Approval:
        """Decide, and return what was decided, also when it was decided so before.

        EdgeError 404 if nothing of this id is the subscriber's, 409 if it was decided otherwise, or has expired.
        """
        async with self._database.transaction() as connection:
            decider = await connection.fetchval(_DECIDE, subscriber, approval_id, decision, by, now, reason or None)
            if decider is not None:
                told = {"approvalId": str(approval_id), "by": by}
                await note(connection, subscriber, decider, _DONE[decision], at=now, metadata=told)
        found = await self._find(subscriber, approval_id)
        if found.decision is None:
            raise EdgeError(409, "approval_expired", "It has expired, and can be decided no more.", side=Side.CALLER)
        if found.decision != decision:
            detail = f"It was decided otherwise: {found.decision}."
            raise EdgeError(409, "approval_decided", detail, side=Side.CALLER)
        return found

    async def _find(self, subscriber: str, approval_id: UUID) -> Approval:
        row = await self._database.fetchrow(_FIND, subscriber, approval_id)
        if row is None:
            raise EdgeError(404, "approval_unknown", "You have no approval of this id.", side=Side.CALLER)
        return _approval(row)


def _approval(row: Mapping[str, Any]) -> Approval:
    return Approval(
        id=row["approval_id"],
        executive_id=row["executive_id"],
        executive_name=row["name"] or row["executive_id"],
        action=row["action"],
        type=row["type"],
        value=row["value"],
        currency=row["currency"],
        risk=row["risk"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        decision=row["decision"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        reason=row["reason"],
    )
