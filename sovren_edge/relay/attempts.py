"""Owns how often and where one request is tried: decides, and remembers what was tried.

A failed connect costs no budget and each other ready endpoint is tried once; anything later is repeated once, within
the pool's budget, where the pool or the method allows it. Where requests are traced, each attempt is a span. Must not
know connections.
"""

from typing import TYPE_CHECKING

from pools.admission import Lease, Outcome
from pools.pool import NOBODY
from pools.tiers import Tiers
from sovren_edge.http.request import IDEMPOTENT
from sovren_edge.observe.tracing import Span

if TYPE_CHECKING:
    from pools.endpoint import Endpoint

# A kept connection that ends so soon after it was used again was closed before the endpoint saw the request.
STALE_S = 0.1
FAULTS = frozenset({Outcome.FAILED, Outcome.REFUSED})


class Attempts:
    """The attempts of one request, the `last` of them at an endpoint; `repeated` once one was an endpoint's fault.

    `counted` once a pool was asked for it: it is one of those of which the budget is a share.
    """

    count = 0
    counted = False
    repeated = False
    tried: "frozenset[Endpoint]" = NOBODY
    last: "Endpoint | None" = None
    _stale = False
    # What is recorded of the attempt that is open, if anything.
    open: Span | None = None

    def begin(self, span: Span, lease: Lease, now: float, method: str, *, hedge: bool) -> None:
        """Record an attempt at a lease's endpoint; `hedge` if it goes on beside another one."""
        self.open = opened = span.child(method, "client", now)
        endpoint = lease.endpoint
        opened.attributes = {
            "http.request.method": method, "server.address": endpoint.host, "server.port": endpoint.port,
            "sovren.pool": lease.pool.name, "sovren.endpoint": endpoint.name, "sovren.attempt": self.count,
            "sovren.hedge": hedge,
        }  # fmt: skip

    def answered(self, status: int) -> None:
        """Record an endpoint's answer."""
        if self.open is not None:
            self.open.attributes["http.response.status_code"] = status

    def end(self, span: Span, outcome: Outcome, now: float) -> None:
        """Record how the open attempt ended."""
        self.open = None
        span.attributes["sovren.outcome"] = str(outcome)
        span.end(now, str(outcome) if outcome in FAULTS else "")

    def connect_failed(self, endpoint: "Endpoint") -> None:
        """Try this endpoint no more."""
        self.tried |= {endpoint}

    def may_repeat(
        self, method: str, lease: Lease, tiers: Tiers, now: float, kept_connection_for_s: float | None
    ) -> bool:
        """Whether to send the request again after an attempt that brought no byte of an answer, and count it if so.

        `kept_connection_for_s` is how long ago the request was sent on a kept connection; None for a fresh one.
        """
        if not (lease.pool.settings.repeatable or method in IDEMPOTENT):
            return False
        if kept_connection_for_s is not None and kept_connection_for_s < STALE_S and not self._stale:
            # Closed under our feet, as if it could not be connected to: that says nothing about the endpoint, unless it
            # happens all the time. The slot is not taken from those who wait: it was this one's, and did nothing.
            self._stale = True
            return lease.pool.budget.take(now)
        # A repeat must not take the slot of somebody who has not been served once.
        if self.repeated or lease.pool.waiting or not lease.pool.budget.take(now):
            return False
        self.repeated = True
        tried = self.tried | {lease.endpoint}
        if tiers.can_serve(tried):
            self.tried = tried
        # Otherwise there is no elsewhere: the same endpoint answers now, or refuses to connect and is known as down.
        return True
