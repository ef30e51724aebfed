"""Owns getting one answer from the pools: a slot, attempts, and the lease, from the question to the answer's last byte.

A lease is held from the choice of an endpoint to the end of its attempt and released exactly once. Must not know whom
the answer is for, nor what becomes of it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pools.admission import SUCCEEDED, Lease, Outcome, Refusal, Waiter
from pools.demand import UNKNOWN, Demand
from pools.pool import Pool
from sovren_edge.errors import Problem
from sovren_edge.http.request import RequestHead, forward_request
from sovren_edge.http.response import ResponseHead
from sovren_edge.observe.stats import SERVER_ERROR
from sovren_edge.relay import problems, reasons
from sovren_edge.relay.attempts import Attempts
from sovren_edge.relay.body import NO_BODY, RequestBody
from sovren_edge.relay.connecting import connect
from sovren_edge.relay.counting import count_end
from sovren_edge.relay.deadlines import NEVER

if TYPE_CHECKING:
    import asyncio

    from sovren_edge.observe.stats import EndpointStats
    from sovren_edge.relay.hedge import Hedge
    from sovren_edge.relay.relay import Door, Relay
    from sovren_edge.relay.taker import Taker
    from sovren_edge.relay.upstream import Upstream


class Fetch:
    """One answer being got."""

    # Whether an answer, or a tunnel, has begun.
    begun = False
    endpoint = ""
    queue_s = 0.0
    # The pool whose endpoint was asked last.
    pool: Pool | None = None
    # Takes over the first lease where it can make better use of it.
    divide: Callable[[Lease, float], bool] | None = None
    # Makes of the request what a pool's endpoints are to be asked.
    rewrite: Callable[[Pool], tuple[RequestHead, RequestBody]] | None = None
    # A second attempt beside a slow first one, and whether there may be one.
    hedge: "Hedge | None" = None
    may_hedge = True
    lease: Lease | None = None
    _connecting: "asyncio.Task[None] | None" = None
    _sent_at = 0.0
    _failing = _spoken = False
    # Why it failed while a second attempt goes on.
    _problem: Problem | None = None
    _stats: "EndpointStats | None" = None
    _upstream: "Upstream | None" = None
    _waiter: Waiter | None = None

    def __init__(self, relay: "Relay", door: "Door", taker: "Taker", demand: Demand = UNKNOWN) -> None:
        self._relay = relay
        self.door = door
        self.taker = taker
        self._request, self._body = taker.request, taker.request_body
        self._request_id, self._caller, self._started_at = taker.request_id, taker.caller, taker.started_at
        self.demand = demand
        self.attempts = Attempts()
        self.idle_s = relay.settings.idle_timeout_s

    @property
    def tries(self) -> int:
        """Attempts so far."""
        return self.attempts.count

    # --- admission: pools answer at once, or later through these three

    def ask(self, now: float) -> None:
        """Ask the pools for a slot."""
        attempts = self.attempts
        admission = self.door.tiers.admit(self, now, attempts.tried, self.demand, again=attempts.counted)
        attempts.counted = True
        if isinstance(admission, Lease):
            self.take(admission, now)
        elif isinstance(admission, Waiter):
            self._waiter = admission
            # Pools tell who has waited too long for a slot.
            self.taker.wait_until(NEVER)
        else:
            self.refused(admission)

    def granted(self, lease: Lease) -> None:
        """Take a slot; see relay.Owner."""
        if self._waiter is None:
            # It was ended by what was told just before.
            self._relay.release(lease, Outcome.LEFT, self._relay.now())
            return
        self.take(lease, self._leave_queue())

    def displaced(self) -> None:
        """Look for another tier; see relay.Owner."""
        if self._waiter is not None:
            self.ask(self._leave_queue())

    def refused(self, refusal: Refusal) -> None:
        """Tell that nobody can serve now; see relay.Owner."""
        now = self._leave_queue()
        for pool in self.door.tiers.pools[:1]:
            self._relay.stats_of(pool).refusals[refusal] += 1
        self.taker.failed(problems.refused(refusal, self._relay.roll(problems.RETRY_AFTER_S)), now)

    def _leave_queue(self) -> float:
        now = self._relay.now()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self.queue_s += now - waiter.since
        return now

    # --- attempts

    def take(self, lease: Lease, now: float) -> None:
        """Use a slot."""
        attempts, stats = self.attempts, self._relay.stats_of(lease.pool)
        if not attempts.count:
            if self.divide is not None and self.divide(lease, now):
                return
            stats.queue_wait.observe(self.queue_s)
        if self.rewrite is not None:
            self._request, self._body = self.rewrite(lease.pool)
        attempts.count += 1
        attempts.last = endpoint = lease.endpoint
        if self.taker.span is not None:
            attempts.begin(self.taker.span, lease, now, self._request.method, hedge=not self.may_hedge)
        self.lease, self.pool = lease, lease.pool
        self.endpoint = endpoint.name
        self._stats = stats.endpoints[endpoint.name]
        upstream = self._relay.connections.take(endpoint)
        if upstream is not None:
            self._send(upstream, lease, now)
        elif not self._relay.closed:  # or another caller's end has freed the slot, and this one's follows
            # Connecting has a time-out of its own.
            self.taker.wait_until(NEVER)
            self._connecting = self._relay.spawn(connect(self._relay, self.door, lease, self))

    def connected(self, upstream: "Upstream", lease: Lease) -> None:
        """Use a connection; see connecting.Connected."""
        self._connecting = None
        self._send(upstream, lease, self._relay.now())

    def not_connected(self, lease: Lease, *, exhausted: bool) -> None:
        """Try another endpoint; see connecting.Connected."""
        self._connecting = None
        now = self._relay.now()
        if exhausted:
            self._release(Outcome.LEFT, now)
            self.taker.failed(problems.EXHAUSTED, now)
            return
        self.attempts.connect_failed(lease.endpoint)
        self._release(Outcome.REFUSED, now)
        self.ask(now)

    def _send(self, upstream: "Upstream", lease: Lease, now: float) -> None:
        request, body = self._request, self._body
        self._upstream = upstream
        self._sent_at = now
        head = forward_request(
            request, caller=self._caller, endpoint=lease.endpoint.address,
            body_size=0 if body is NO_BODY else body.size, request_id=self._request_id,
            trace=self.taker.trace if self.attempts.open is None else self.attempts.open.lines,
        )  # fmt: skip
        upstream.begin(self, request.method, head if body is NO_BODY else b"".join((head, *body.begin())))
        if body.complete:
            self.taker.wait_until(now + self._relay.settings.first_byte_timeout_s)
            if lease.pool.hedges and self.may_hedge and not body.streaming:
                self._relay.awaiting.add(self)
            return
        self.taker.wait_until(now + self.idle_s)
        self.taker.sent(paused=upstream.write_paused)

    def _release(self, outcome: Outcome, now: float) -> None:
        lease, self.lease = self.lease, None
        if lease is None:
            return
        if self.attempts.open is not None:
            self.attempts.end(self.attempts.open, outcome, now)
        if self._stats is not None:
            count_end(self._relay.stats_of(lease.pool), self._stats, lease, outcome, now - self._started_at, now)
        self._relay.release(lease, outcome, now)

    # --- the rest of the request

    def write(self, pieces: list[bytes]) -> None:
        """Send more of the request's body, in the form in which it is sent on."""
        if self._upstream is not None and pieces:
            self._upstream.writelines(pieces)

    def body_sent(self, now: float) -> None:
        """Take note that the request is complete."""
        if self._upstream is not None and not self.begun:
            self.taker.wait_until(now + self._relay.settings.first_byte_timeout_s)

    def write_eof(self) -> bool:
        """Pass on that nothing more comes into a tunnel; return whether there is one."""
        if self._upstream is None:
            return False
        self._upstream.write_eof()
        return True

    @property
    def write_paused(self) -> bool:
        """Whether an endpoint reads the request more slowly than it comes."""
        return self._upstream is not None and self._upstream.write_paused

    # --- the answer: told by the upstream connection, see upstream.Served

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx; the final answer follows."""
        self.taker.interim(head)

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """Pass on the answer's head."""
        if head.status >= SERVER_ERROR and self.hedge is not None:
            self._give_way(head, now)
            return
        self._begin(head, now)
        self.taker.answered(head, now, sized=sized)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """Pass on a whole answer."""
        # It serves others already: should the caller be slow to read, this one is no longer to be held back.
        upstream, self._upstream = self._upstream, None
        if head.status >= SERVER_ERROR and self.hedge is not None:
            self._give_way(head, now)
            return
        self._note(head, now)
        if self.lease is not None:
            self.lease.endpoint.active_at = now
        self.taker.answered_whole(head, body, now)
        if body:
            self._spoke(now)
        self._served(upstream, now)

    def switched(self, head: ResponseHead, now: float) -> bool:
        """Become a tunnel: the lease lasts as long as it does."""
        if self.begun or not self.taker.switched(head, now):
            return False
        self.idle_s = self._relay.settings.tunnel_timeout_s
        self._begin(head, now)
        return True

    def body(self, pieces: list[bytes], now: float) -> None:
        """Pass on some of the answer's body."""
        if self.lease is not None and self.lease.endpoint.active_at != now:
            self._moved(now)
        if not self._spoken:
            self._spoken = True
            self._spoke(now)
        self.taker.body(pieces, now)

    def flush(self) -> None:
        """Send on what has come."""
        self.taker.flush()

    def ended(self, now: float) -> None:
        """End a whole answer."""
        upstream, self._upstream = self._upstream, None
        self._served(upstream, now)

    def broken(self, reason: str) -> None:
        """Repeat elsewhere what no byte has answered."""
        upstream, self._upstream = self._upstream, None
        lease, now = self.lease, self._relay.now()
        if self.begun:
            self._release(Outcome.FAILED, now)
            self.taker.broken(f"upstream broke: {reason}", now)
        elif self.hedge is not None:
            # Another attempt is on its way already.
            self._problem = problems.upstream_failed(reason)
            self._release(Outcome.FAILED, now)
        elif lease is not None and upstream is not None and self._may_repeat(lease, upstream, now):
            self._relay.connections.forget(lease.endpoint)
            self._relay.stats_of(lease.pool).retries += 1
            self._release(Outcome.FAILED if self.attempts.repeated else Outcome.LEFT, now)
            self.ask(now)
        else:
            self._release(Outcome.FAILED, now)
            self.taker.failed(problems.upstream_failed(reason), now)

    @property
    def waits(self) -> bool:
        """Whether an endpoint has the request and has not answered."""
        return self._upstream is not None and not self.begun

    def lose(self, now: float) -> None:
        """Let the second attempt answer: this one is cancelled."""
        if self.hedge is not None:
            self.endpoint = self.hedge.fetch.endpoint
            self.attempts.count += self.hedge.fetch.tries
        self.begun = True
        self._end_attempt(Outcome.LEFT, now)

    def hedge_failed(self, now: float, problem: Problem | None = None) -> None:
        """Go on without the second attempt."""
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            self.attempts.count += hedge.fetch.tries
        if self._problem is not None:
            self.taker.failed(problem or self._problem, now)

    def upstream_paused(self, *, paused: bool) -> None:
        """Take no more of the request while the endpoint is slow to read."""
        self.taker.sent(paused=paused)

    def _begin(self, head: ResponseHead, now: float) -> None:
        self._note(head, now)
        self._moved(now)

    def _give_way(self, head: ResponseHead, now: float) -> None:
        """Do not pass an error on: the second attempt may bring something better."""
        self.attempts.answered(head.status)
        self._problem = problems.upstream_failed(f"an endpoint answered {head.status}")
        self._end_attempt(Outcome.FAILED, now)

    def _note(self, head: ResponseHead, now: float) -> None:
        self.begun = True
        self.attempts.answered(head.status)
        self._failing = head.status >= SERVER_ERROR
        # Nothing that has been answered is to be kept in memory by those that have not.
        self._relay.awaiting.discard(self)
        if self.hedge is not None:
            self.hedge.stop(Outcome.LEFT, now)

    def _moved(self, now: float) -> None:
        """Take note that bytes came from the endpoint."""
        self.taker.wait_until(now + self.idle_s)
        if self.lease is not None:
            self.lease.endpoint.active_at = now

    def _spoke(self, now: float) -> None:
        """Take note of the first bytes of the answer's body."""
        if self._failing or self._stats is None or self.lease is None:
            return
        self._stats.ttfa.observe(now - self._started_at)
        self.lease.pool.spoke(self.lease, now)

    def _served(self, upstream: "Upstream | None", now: float) -> None:
        if not self._body.complete and upstream is not None:
            # Answered before the request was sent: the connection is in the middle of a body.
            self._relay.connections.discard(upstream)
        self._release(Outcome.FAILED if self._failing else SUCCEEDED, now)
        self.taker.ended(now)

    def _may_repeat(self, lease: Lease, upstream: "Upstream", now: float) -> bool:
        kept_for_s = now - self._sent_at if upstream.used else None
        repeatable = not self._body.streaming
        return repeatable and self.attempts.may_repeat(self._request.method, lease, self.door.tiers, now, kept_for_s)

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        lease = self.lease
        if lease is None:
            return {} if self.hedge is None else self.hedge.fetch.explain() | {"hedged": "yes"}
        return reasons.explain(lease, self.tries)

    # --- the taker

    def blame(self) -> None:
        """Count the attempt as the endpoint's failure, whatever its status says."""
        self._failing = True
        if self.hedge is not None:
            self.hedge.fetch.blame()

    def pause(self, *, paused: bool) -> None:
        """Read no more from the endpoint while nobody takes it, or go on."""
        if self.hedge is not None:
            self.hedge.fetch.pause(paused=paused)
        if self._upstream is None:
            return
        if self.lease is not None:
            self.lease.held_back = True
        self._upstream.pause(paused=paused)
        self.taker.wait_until(self._relay.now() + self.idle_s)

    def stop(self, outcome: Outcome, now: float) -> None:
        """End the work at once, wherever it stands."""
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            hedge.stop(outcome, now)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.pool.leave(waiter)
        self._end_attempt(outcome, now)

    def _end_attempt(self, outcome: Outcome, now: float) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._relay.connections.discard(upstream)
        self._release(outcome, now)
