"""Owns what a subscriber has spent in a period of its budget, and whether it may spend more.

Spent is what the database knew when it was read last, and every cost since that was not among it. Those in flight hold
what they are expected to cost. Amounts are millionths of a US dollar, periods are UTC. Must not know databases, and
reads no clock.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sovren_edge.gateway.ledger.rows import CostRow
from sovren_edge.gateway.settings import BudgetSettings

# Percent of a budget at which it is told of.
THRESHOLDS = (50, 80, 100)
# When only requests in flight stand in the way, one of them will have ended soon.
SOON_S = 1

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A day or a month, its end excluded."""

    start: datetime
    end: datetime


def span_of(period: Literal["day", "month"], now: datetime) -> Span:
    """Return the day or the month that a moment lies in."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return Span(day, day + timedelta(days=1))
    first = day.replace(day=1)
    return Span(first, (first + timedelta(days=31)).replace(day=1))


class Account:
    """One subscriber's spending in its present period; `turn` is called first, with the time, whenever it is used."""

    __slots__ = ("_held", "_own", "_recorded", "_told", "budget", "known", "span")

    def __init__(self, budget: BudgetSettings, now: datetime) -> None:
        self.budget = budget
        self.span = span_of(budget.period, now)
        self.known = False
        self._recorded = 0
        self._own: dict[UUID, CostRow] = {}
        self._held = 0
        self._told = 0

    def turn(self, now: datetime) -> None:
        """Begin a new period if one has begun; who knew the last one knows that nothing was spent in this one yet."""
        # A wall clock that goes back begins no period again.
        if now >= self.span.end:
            self._begin(span_of(self.budget.period, now))

    def _begin(self, span: Span) -> None:
        self.span = span
        self._recorded = self._told = 0
        self._own = {key: cost for key, cost in self._own.items() if cost.created_at >= span.start}

    def go_by(self, budget: BudgetSettings, now: datetime) -> None:
        """Have another budget from now on; what was spent in a period of another length has yet to be read."""
        if budget.period != self.budget.period:
            self._begin(span_of(budget.period, now))
            self.known = False
        self.budget = budget

    def tell(self) -> dict[str, object]:
        """Return what was spent, as JSON knows it, for another process's account of the same subscriber."""
        own = [asdict(cost) for cost in self._own.values()]
        return {"start": self.span.start, "end": self.span.end, "recorded_microusd": self._recorded, "own": own}

    def learn(self, told: Mapping[str, Any]) -> None:
        """Take over what another process knew of this period."""
        span = Span(datetime.fromisoformat(told["start"]), datetime.fromisoformat(told["end"]))
        self.read(span, told["recorded_microusd"], ())
        for cost in told["own"]:
            request_id, created_at = UUID(cost["request_id"]), datetime.fromisoformat(cost["created_at"])
            self.spend(CostRow(**{**cost, "request_id": request_id, "created_at": created_at}))

    @property
    def spent_microusd(self) -> int:
        """What was spent in this period."""
        return self._recorded + sum(cost.amount_microusd for cost in self._own.values())

    @property
    def idle(self) -> bool:
        """Whether the database knows as much."""
        return not self._held and not self._own

    def refused_for_s(self, expected_microusd: int, now: datetime) -> int | None:
        """Return in how many seconds to ask again, None if it may be spent; with nothing left, nothing is free."""
        hard = self.budget.hard_microusd
        left = 0 if hard is None else hard - self.spent_microusd
        wanted = max(expected_microusd, 1)
        if hard is None or wanted <= left - self._held:
            return None
        return SOON_S if wanted <= left else max(-((now - self.span.end) // _SECOND), 1)

    def hold(self, amount_microusd: int) -> None:
        """Set aside what a request in flight is expected to cost."""
        self._held += amount_microusd

    def release(self, amount_microusd: int) -> None:
        """Set it aside no more."""
        self._held -= amount_microusd

    def spend(self, cost: CostRow) -> None:
        """Count what a request has cost, if it belongs to this period; the same one again changes nothing."""
        if cost.amount_microusd and cost.created_at >= self.span.start:
            self._own[cost.request_id] = cost

    def unread(self) -> list[UUID]:
        """Return the requests whose costs were not in the database when it was read last."""
        return list(self._own)

    def read(self, span: Span, recorded_microusd: int, found: Collection[UUID]) -> None:
        """Take over what the database knew of a period at one moment: the sum, and which costs were in it."""
        if span != self.span:
            return
        self._recorded, self.known = recorded_microusd, True
        for request_id in found:
            del self._own[request_id]

    def reached(self) -> list[int]:
        """Return the thresholds, in percent, that are reached and were not returned in this period."""
        percent = self.spent_microusd * 100 // self.budget.basis_microusd
        new = [threshold for threshold in THRESHOLDS if self._told < threshold <= percent]
        self._told = max([self._told, *new])
        return new
