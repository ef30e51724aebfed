"""Owns one answer that several callers get: equal requests that are in flight at once are spoken once.

Who comes late is first given what has come so far. A caller that leaves takes nothing from the others; the work ends
with the last of them. Must not know where the answer comes from, nor connections.
"""

from collections.abc import Callable, Hashable, MutableMapping

from pools.admission import Outcome
from pools.pool import Pool
from sovren_edge.errors import Problem
from sovren_edge.http.response import ResponseHead
from sovren_edge.relay.budget import Budget
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.taker import Taker

# As much of an answer is remembered for those who come late; when more has come, nobody joins any more.
REMEMBERED = 2 * 1024 * 1024


class Flight:
    """One answer on its way: whom its supplier tells, see taker.Taker, and what supplies the first who asked for it.

    Nearly all are for that one alone; whoever else asks gets a seat.
    """

    supplier: Supplier | None = None
    _deadline = 0.0
    _head: ResponseHead | None = None
    _sized = False
    # All of the request is at hand.
    write_paused = False

    def __init__(
        self, flights: MutableMapping[Hashable, "Flight"], key: Hashable, first: Taker, budget: Budget, idle_s: float
    ) -> None:
        """Take part in `flights` under a `key` until the answer is complete, or too long; `first` asked for it."""
        self._budget = budget
        self.idle_s = idle_s
        self.request, self.request_body, self.request_id = first.request, first.request_body, first.request_id
        self.caller, self.started_at = first.caller, first.started_at
        self.trace, self.span = first.trace, first.span
        self._flights = flights
        self._key = key
        self._first = first
        self._takers = [first]
        self._paused: frozenset[Taker] = frozenset()
        # What has come, while it is remembered.
        self._pieces: list[bytes] = []
        self._size = self._reserved = 0
        # Told of an answer that is complete, if all of it is remembered.
        self.on_complete: Callable[[ResponseHead, list[bytes], float], None] | None = None
        flights[key] = self

    def board(self, taker: Taker, now: float) -> None:
        """Let somebody else have the answer: what has come of it now, and the rest when it comes."""
        self._takers.append(taker)
        taker.wait_until(self._deadline)
        if self._head is not None:
            taker.answered(self._head, now, sized=self._sized)
            if self._pieces:
                taker.body(list(self._pieces), now)
            taker.flush()

    def leave(self, taker: Taker, outcome: Outcome, now: float) -> None:
        """Let somebody go; the last one ends the work."""
        if taker not in self._takers:
            return
        self._takers.remove(taker)
        self.hold(taker, paused=False)
        supplier = self.supplier
        if not self._takers and supplier is not None:
            self._end()
            self.supplier = None
            supplier.stop(outcome, now)

    def hold(self, taker: Taker, *, paused: bool) -> None:
        """Bring no more while one of the callers has far too much to read still."""
        before = bool(self._paused)
        self._paused = self._paused | {taker} if paused else self._paused - {taker}
        if before != bool(self._paused) and self.supplier is not None:
            self.supplier.pause(paused=paused)

    def _close(self) -> None:
        """Let nobody join any more."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]

    def _end(self) -> list[Taker]:
        """Return who is to be told of the end."""
        self._close()
        # What it tells holds its supplier; see ended.
        self.on_complete = None
        self._forget()
        takers, self._takers = self._takers, []
        return takers

    # --- what supplies the first who asked: see exchange.Supplier

    @property
    def endpoint(self) -> str:
        """Who answers."""
        return "" if self.supplier is None else self.supplier.endpoint

    @property
    def pool(self) -> Pool | None:
        """The pool that answers."""
        return None if self.supplier is None else self.supplier.pool

    @property
    def queue_s(self) -> float:
        """Seconds that were waited for a slot."""
        return 0.0 if self.supplier is None else self.supplier.queue_s

    @property
    def tries(self) -> int:
        """Attempts so far."""
        return 0 if self.supplier is None else self.supplier.tries

    def ask(self, now: float) -> None:
        """Begin."""
        if self.supplier is not None:
            self.supplier.ask(now)

    def write(self, pieces: list[bytes]) -> None:
        """See exchange.Supplier; all of the request is at hand."""

    def body_sent(self, now: float) -> None:
        """See exchange.Supplier; it was complete before."""

    def write_eof(self) -> bool:
        """See exchange.Supplier; this is no tunnel."""
        return False

    def pause(self, *, paused: bool) -> None:
        """Bring no more of the answer while the first caller is slow to read, or go on."""
        self.hold(self._first, paused=paused)

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return {} if self.supplier is None else self.supplier.explain()

    def stop(self, outcome: Outcome, now: float) -> None:
        """Let the first caller leave."""
        self.leave(self._first, outcome, now)

    # --- what its supplier tells

    def wait_until(self, deadline: float) -> None:
        """See taker.Taker."""
        self._deadline = deadline
        for taker in self._takers:
            # While some are slow to read, only their time runs out.
            taker.wait_until(NEVER if self._paused and taker not in self._paused else deadline)

    def sent(self, *, paused: bool) -> None:
        """See taker.Taker; all of the request is at hand."""

    def interim(self, head: ResponseHead) -> None:
        """See taker.Taker."""
        for taker in self._takers[:]:
            taker.interim(head)

    def switched(self, head: ResponseHead, now: float) -> bool:  # noqa: ARG002 - Taker's signature
        """See taker.Taker; nobody asked for that."""
        return False

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """See taker.Taker."""
        self._head, self._sized = head, sized
        for taker in self._takers[:]:
            taker.answered(head, now, sized=sized)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """See taker.Taker; the end follows at once, and nobody can join before it."""
        if self.on_complete is not None:
            self._head = head
            self._remember([body])
        for taker in self._takers[:]:
            taker.answered_whole(head, body, now)

    def body(self, pieces: list[bytes], now: float) -> None:
        """See taker.Taker."""
        self._remember(pieces)
        for taker in self._takers[:]:
            taker.body(pieces, now)

    def _remember(self, pieces: list[bytes]) -> None:
        size = sum(map(len, pieces))
        self._size += size
        if self._size <= REMEMBERED and self._budget.take(size):
            self._reserved += size
            self._pieces += pieces
        else:
            self._size = REMEMBERED + 1
            self._forget()
            self._close()

    def _forget(self) -> None:
        if self._reserved:
            self._budget.give(self._reserved)
            self._pieces, self._reserved = [], 0

    def flush(self) -> None:
        """See taker.Taker."""
        for taker in self._takers[:]:
            taker.flush()

    def ended(self, now: float) -> None:
        """See taker.Taker."""
        if self.on_complete is not None and self._head is not None and self._size <= REMEMBERED:
            self.on_complete(self._head, self._pieces, now)
        for taker in self._end():
            taker.ended(now)
        # The two hold each other, and nothing here is to wait for a collection.
        self.supplier = None

    def failed(self, problem: Problem, now: float) -> None:
        """See taker.Taker."""
        for taker in self._end():
            taker.failed(problem, now)
        self.supplier = None

    def broken(self, reason: str, now: float) -> None:
        """See taker.Taker."""
        for taker in self._end():
            taker.broken(reason, now)
        self.supplier = None


class Seat:
    """The place in a flight of somebody who asked later, for whom nothing is attempted: see exchange.Supplier."""

    queue_s, tries, write_paused = 0.0, 0, False

    def __init__(self, flight: Flight, taker: Taker) -> None:
        self._flight = flight
        self._taker = taker
        self.idle_s = flight.idle_s

    @property
    def endpoint(self) -> str:
        """Who answers."""
        return self._flight.endpoint

    @property
    def pool(self) -> Pool | None:
        """The pool that answers."""
        return self._flight.pool

    def ask(self, now: float) -> None:
        """Take part."""
        self._flight.board(self._taker, now)

    def write(self, pieces: list[bytes]) -> None:
        """See exchange.Supplier; all of the request is at hand."""

    def body_sent(self, now: float) -> None:
        """See exchange.Supplier; it was complete before."""

    def write_eof(self) -> bool:
        """See exchange.Supplier; this is no tunnel."""
        return False

    def pause(self, *, paused: bool) -> None:
        """Bring no more of the answer while this caller is slow to read, or go on."""
        self._flight.hold(self._taker, paused=paused)

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return self._flight.explain() | {"shared": "yes"}

    def stop(self, outcome: Outcome, now: float) -> None:
        """Leave."""
        self._flight.leave(self._taker, outcome, now)
