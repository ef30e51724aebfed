"""Owns the routes by which a subscriber sees its executives, what they did and what waits for a decision, and decides.

Must not know how any of it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field

from handlers.executives.activity import Activities
from handlers.executives.approvals import Approvals, Decision
from handlers.executives.models import ExecutiveId, Shape
from handlers.executives.proposal import Risk
from handlers.executives.roster import Roster
from sovren_edge.handler import Edge, Request

Limit = Annotated[int, Field(ge=1, le=100, description="At most so many.")]
Offset = Annotated[int, Field(ge=0, le=1_000_000, description="So many are left out at the beginning.")]
Word = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]


def _in_utc(moment: datetime) -> datetime:
    """Take a time without an offset for one in UTC; ValueError if the calendar of UTC does not reach so far."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("this is no time in UTC") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Member(Shape):
    """One of a subscriber's executives."""

    id: str
    name: str
    role: str
    status: str
    department: str
    capabilities: Sequence[str]


class Members(Shape):
    """A part of them, in their order; `total` is how many there are."""

    executives: Sequence[Member]
    total: int


class Deed(Shape):
    """Something that an executive did."""

    id: str
    executive_id: str
    executive_name: str
    action: str
    timestamp: datetime
    metadata: dict[str, Any]


class Deeds(Shape):
    """A part of what was done, the newest first."""

    activities: Sequence[Deed]
    total: int
    has_more: bool


class Waiting(Shape):
    """Something that an executive asks consent for; `value` is a decimal number as text."""

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


class Pending(Shape):
    """A part of what waits, the first to expire first."""

    approvals: Sequence[Waiting]
    total: int
    has_more: bool


class Verdict(Shape):
    """What is decided, and why."""

    decision: Decision
    reason: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""


class Decided(Waiting):
    """What was decided, by whose token, and when."""

    decision: Decision
    decided_by: str
    decided_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Shows a subscriber its own; each method is a route."""

    edge: Edge
    roster: Roster
    activities: Activities
    approvals: Approvals

    async def executives(
        self,
        request: Request,
        *,
        limit: Limit = 100,
        offset: Offset = 0,
        role: Word | None = None,
        status: Word | None = None,
    ) -> Members:
        """List your executives."""
        caller = await self.edge.authenticate(request)
        found, total = await self.roster.page(caller.subject, role=role, status=status, limit=limit, offset=offset)
        members = [Member.model_validate(one, from_attributes=True) for one in found]
        return Members(executives=members, total=total)

    async def activity(
        self,
        request: Request,
        *,
        executive_id: Annotated[ExecutiveId | None, Field(alias="executiveId")] = None,
        action: Word | None = None,
        since: Annotated[Moment | None, Field(alias="from", description="From this moment on.")] = None,
        until: Annotated[Moment | None, Field(alias="to", description="Before this moment.")] = None,
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> Deeds:
        """List what your executives did."""
        caller = await self.edge.authenticate(request)
        found, total = await self.activities.page(
            caller.subject,
            executive_id=executive_id,
            action=action,
            since=since,
            until=until,
            limit=limit,
            offset=offset,
        )
        deeds = [
            Deed(
                id=str(one.id), executive_id=one.executive_id, executive_name=one.executive_name, action=one.action,
                timestamp=one.happened_at, metadata=dict(one.metadata),
            )
            for one in found
        ]  # fmt: skip
        return Deeds(activities=deeds, total=total, has_more=offset + len(deeds) < total)

    async def pending_approvals(self, request: Request, limit: Limit = 50, offset: Offset = 0) -> Pending:
        """List what waits for your decision."""
        caller = await self.edge.authenticate(request)
        now = self.edge.clock.now()
        found, total = await self.approvals.pending(caller.subject, now, limit=limit, offset=offset)
        waiting = [Waiting.model_validate(one, from_attributes=True) for one in found]
        return Pending(approvals=waiting, total=total, has_more=offset + len(waiting) < total)

    async def decide(self, approval_id: UUID, verdict: Verdict, request: Request) -> Decided:
        """Decide something that waits.

        To decide it once more in the same way changes nothing; in another way, or too late, is a 409.
        """
        caller = await self.edge.authenticate(request)
        decided = await self.approvals.decide(
            caller.subject, approval_id, verdict.decision, verdict.reason, by=caller.subject, now=self.edge.clock.now()
        )
        return Decided.model_validate(decided, from_attributes=True)
