"""Owns a second attempt beside one whose first byte is late: whichever answers first is heard, the other is cancelled.

Must not know when one is due: the pool says so.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from pools.admission import Lease, Outcome
from pools.tiers import Tiers
from sovren_edge.errors import Problem
from sovren_edge.http.response import ResponseHead
from sovren_edge.observe.stats import SERVER_ERROR
from sovren_edge.relay.fetch import Fetch

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Relay


class Hedge:
    """Takes the second attempt's answer in the first one's name; see taker.Taker."""

    def __init__(self, relay: "Relay", first: Fetch, lease: Lease) -> None:
        """Begin beside `first`, which holds `lease`."""
        asked = first.taker
        self.request, self.request_body, self.request_id = asked.request, asked.request_body, asked.request_id
        self.caller, self.started_at = asked.caller, asked.started_at
        self.trace, self.span = asked.trace, asked.span
        self._relay = relay
        self._first = first
        self._won = self._over = False
        # It stays in the tier, and is never sent where the first one was.
        door = replace(first.door, tiers=Tiers([lease.pool]))
        self.fetch = Fetch(relay, door, self, lease.demand)
        self.fetch.attempts.tried = first.attempts.tried | {lease.endpoint}
        self.fetch.rewrite = first.rewrite
        # One is enough.
        self.fetch.attempts.repeated = self.fetch.attempts.counted = True
        self.fetch.may_hedge = False

    def begin(self, now: float) -> None:
        """Ask for the slot."""
        self.fetch.ask(now)

    def stop(self, outcome: Outcome, now: float) -> None:
        """End it: the first one has answered, or nobody waits any more."""
        self._over = True
        self.fetch.stop(outcome, now)
        self._let_go()

    def _let_go(self) -> None:
        # The two hold each other, and nothing here is to wait for a collection.
        self.fetch.taker = self._first.taker

    def _win(self, head: ResponseHead, now: float) -> bool:
        """Whether it is heard from now on: an error is no answer as long as the first one may bring a better one."""
        if self._over or (head.status >= SERVER_ERROR and self._first.waits):
            self.fetch.blame()
            return False
        self._won = True
        self._first.lose(now)
        self._first.taker.wait_until(now + self.fetch.idle_s)
        return True

    # --- what its fetch tells

    def wait_until(self, deadline: float) -> None:
        """See taker.Taker; until it is heard, the first one's time counts."""
        if self._won:
            self._first.taker.wait_until(deadline)

    def sent(self, *, paused: bool) -> None:
        """See taker.Taker; all of the request is at hand."""

    def interim(self, head: ResponseHead) -> None:
        """See taker.Taker; nobody waits for it."""

    def switched(self, head: ResponseHead, now: float) -> bool:  # noqa: ARG002 - Taker's signature
        """See taker.Taker; nobody asked for that."""
        return False

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """See taker.Taker."""
        if self._win(head, now):
            self._first.taker.answered(head, now, sized=sized)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """See taker.Taker."""
        if self._win(head, now):
            self._first.taker.answered_whole(head, body, now)

    def body(self, pieces: list[bytes], now: float) -> None:
        """See taker.Taker."""
        if self._won:
            self._first.taker.body(pieces, now)

    def flush(self) -> None:
        """See taker.Taker."""
        if self._won:
            self._first.taker.flush()

    def ended(self, now: float) -> None:
        """See taker.Taker."""
        self._let_go()
        if self._won:
            self._first.hedge = None
            self._first.taker.ended(now)
        else:
            self._first.hedge_failed(now)

    def failed(self, problem: Problem, now: float) -> None:
        """See taker.Taker."""
        self._let_go()
        if not self._over:
            self._first.hedge_failed(now, problem)

    def broken(self, reason: str, now: float) -> None:
        """See taker.Taker."""
        self._let_go()
        if self._won:
            self._first.hedge = None
            self._first.taker.broken(reason, now)
        else:
            self._first.hedge_failed(now)


def begin_due(relay: "Relay", now: float) -> None:
    """Begin second attempts beside those whose first byte is late, as far as pools allow it."""
    for fetch in tuple(relay.awaiting):
        lease = fetch.lease
        if lease is None or not fetch.waits:
            relay.awaiting.discard(fetch)
        elif lease.pool.may_hedge(lease, now, fetch.attempts.tried):
            relay.awaiting.discard(fetch)
            relay.stats_of(lease.pool).hedges += 1
            fetch.hedge = hedge = Hedge(relay, fetch, lease)
            hedge.begin(now)
