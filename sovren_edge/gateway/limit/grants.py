"""Owns the seam between the gateway and whoever grants: this process alone (here), its successor, or Redis.

Of one request: `grant`, then `confirm` right before it is dialled, then once `settle` or `refund`. Must not know
requests, answers or the ledger.
"""

from collections.abc import Callable
from typing import Protocol

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.limit.limiter import Crowded, Decision, Exceeded, Granted, Limiter, Quota
from sovren_edge.gateway.limit.notes import Notes, Refused


def unavailable() -> EdgeError:
    """Return the error of a caller whose grants nobody can tell."""
    return EdgeError(503, "limiter_unavailable", "The limiter does not answer at the moment.", retry_after_s=1)


class Grants(Protocol):
    """Permission to send, exact over all who share it; times are of the clock that `now_us` tells, named `clock`."""

    @property
    def clock(self) -> str:
        """The name of the clock, which tells whether times of two processes can be compared."""
        ...

    async def grant(self, subscriber: str, grant_id: str) -> Decision:
        """Decide whether to send; the same id again is the same grant. Raises EdgeError 503 if nobody can tell."""
        ...

    async def confirm(self, subscriber: str, grant_id: str, granted: Granted) -> Decision:
        """Return the grant as it stands right before dialling; raises EdgeError 503 if nobody can tell."""
        ...

    async def settle(self, subscriber: str, grant_id: str) -> None:
        """Note that a request has ended, whose grant stays charged; never fails."""
        ...

    async def refund(self, subscriber: str, grant_id: str) -> None:
        """Undo the grant of a request in flight that sent nothing; never fails."""
        ...

    async def look(self, subscriber: str) -> Quota:
        """Return what a subscriber has used, and use nothing; raises EdgeError 503 if nobody can tell."""
        ...

    def noted(self, subscriber: str) -> Refused | None:
        """Return a refusal of the last second, which `grant` would repeat; it asks nobody."""
        ...

    def now_us(self) -> int:
        """Return the present, in microseconds."""
        ...


class LocalGrants:
    """Grants of this process alone; whoever made the limiter seeds and sweeps it."""

    def __init__(self, limiter: Limiter, now_us: Callable[[], int], clock: str) -> None:
        self.clock = clock
        self._limiter = limiter
        self._now_us = now_us
        self._notes = Notes()

    async def grant(self, subscriber: str, grant_id: str) -> Decision:
        """Decide whether to send; the same id again is the same grant."""
        now_us = self._now_us()
        decision = self._limiter.grant(subscriber, grant_id, now_us)
        if isinstance(decision, Exceeded | Crowded):
            self._notes.keep(subscriber, decision, now_us)
        return decision

    async def confirm(self, subscriber: str, grant_id: str, granted: Granted) -> Decision:  # noqa: ARG002 - the seam's
        """Return the grant: nothing that happens elsewhere can take it away."""
        return granted

    async def settle(self, subscriber: str, grant_id: str) -> None:
        """Note that a request has ended, whose grant stays charged."""
        self._limiter.settle(subscriber, grant_id)
        self._notes.drop(subscriber)

    async def refund(self, subscriber: str, grant_id: str) -> None:
        """Undo the grant of a request in flight that sent nothing."""
        self._limiter.refund(subscriber, grant_id)
        self._notes.drop(subscriber)

    async def look(self, subscriber: str) -> Quota:
        """Return what a subscriber has used, and use nothing."""
        return self._limiter.look(subscriber, self._now_us())

    def noted(self, subscriber: str) -> Refused | None:
        """Return a refusal of the last second."""
        return self._notes.find(subscriber, self._now_us())

    def now_us(self) -> int:
        """Return the present, in microseconds."""
        return self._now_us()
