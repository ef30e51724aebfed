"""Owns one pool: leases on its endpoints' slots, its queue, and what becomes of both when endpoints change.

Every decision is made here at once and returned as events; the caller acts on them. Must not know tiers.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

from pools.admission import SUCCEEDED, Displaced, Event, Expired, Granted, Lease, Outcome, Refusal, Waiter
from pools.balancer import Roll, least_inflight
from pools.demand import UNKNOWN, Demand
from pools.endpoint import ByHand, Endpoint
from pools.handover import Holding
from pools.health import ProbeResult
from pools.outlier import may_eject
from pools.retired import Retired
from pools.retry import RetryBudget
from pools.settings import PoolSettings
from pools.speech import Speech

if TYPE_CHECKING:
    from pools.lender import Lender

NOBODY: frozenset[Endpoint] = frozenset()
# So long after an error an endpoint is blameless again.
FORGIVEN_S = 10.0


class Pool:
    """The one owner of its endpoints' slots. `roll` breaks ties, `jitter` (0 to 1) spreads ejections."""

    def __init__(
        self, name: str, settings: PoolSettings, endpoints: Sequence[Endpoint], roll: Roll, jitter: Callable[[], float]
    ) -> None:
        self.name = name
        self.settings = settings
        self.endpoints = list(endpoints)
        self.budget = RetryBudget()
        # What is known of texts, where they are what the pool is for.
        self._speech: Speech | None = None
        if settings.kind == "speech":
            self._speech = Speech(settings.overdue_s, roll, in_parts=settings.interchangeable)
        # Whether a second attempt may begin beside a slow first one at all.
        self.hedges = self._speech is not None and settings.repeatable
        self._roll = roll
        self._jitter = jitter
        # A dictionary is an ordered set: a caller that leaves is removed without a search.
        self._queue: dict[Waiter, None] = {}
        # What operators have set, by the endpoint's address: it holds as well for one that leaves and joins again.
        self._by_hand: defaultdict[str, ByHand] = defaultdict(ByHand)
        # Since when it has an endpoint again that is ready, and whether it ever had one.
        self.returned_at = -inf
        self._served = False
        # Whether DNS has been asked for endpoints, where it is to be asked.
        self.discovered = settings.dns is None
        # What it shares with another process: one that ends before it, and one that outlives it; see handover.
        self.lender: Lender | None = None
        self.retired: Retired | None = None
        # Kept, not asked for at each request: readiness changes seldom, and only through this class.
        self._ready: list[Endpoint] = []

    @property
    def inflight(self) -> int:
        """Open leases on all endpoints."""
        return sum(endpoint.inflight for endpoint in self.endpoints)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def ready(self) -> bool:
        """Whether any endpoint is ready."""
        return self.can_serve(NOBODY)

    @property
    def probed(self) -> bool:
        """Whether the first round of probes is over."""
        return self.discovered and all(endpoint.absent or endpoint.health.probed for endpoint in self.endpoints)

    def can_serve(self, tried: frozenset[Endpoint]) -> bool:
        """Whether an endpoint is ready that is not among those tried."""
        return bool(self._ready) if not tried else any(endpoint not in tried for endpoint in self._ready)

    def admit(
        self,
        owner: object,
        now: float,
        tried: frozenset[Endpoint] = NOBODY,
        demand: Demand = UNKNOWN,
        *,
        again: bool = False,
    ) -> Lease | Waiter | Refusal:
        """Lease a slot, or queue the owner, or refuse. A free slot is left to who comes later only by the greedy.

        Who asks `again` for the same request is not counted once more.
        """
        if not again:
            self.budget.requests += 1
        speech = self._speech
        # Nobody else is overtaken: those who wait have tried every endpoint that has a free slot.
        held = speech is not None and speech.must_wait(demand, self._ready, now)
        endpoint = None if held else self._choose(tried, demand, now)
        if endpoint is not None:
            lease = self._lease(endpoint, demand, now)
            if speech is not None and not again:
                speech.callers.ask(demand.caller, lease.estimate_s, now)
            return lease
        if not self.can_serve(tried):
            return Refusal.NO_ENDPOINT
        if len(self._queue) >= self.settings.queue.limit and demand.due is None:
            return Refusal.QUEUE_FULL
        # Whoever is heard already waits as long as it takes.
        until = inf if demand.due is not None else min(demand.deadline, now + self.settings.queue.timeout_s)
        waiter = Waiter(self, owner, now, tried, until, demand)
        if speech is not None:
            waiter.estimate_s = speech.estimate_s(demand)
            if not again:
                speech.callers.ask(demand.caller, waiter.estimate_s, now)
            refusal = speech.refuse(waiter, self._queue, self._ready, self.settings.queue.limit, now)
            if refusal is not None:
                return refusal
        self._queue[waiter] = None
        if self.retired is not None:
            self.retired.settle(self._queue, self._ready, now)
        return waiter

    def wait(self, waiter: Waiter, now: float, *, again: bool) -> Sequence[Event]:
        """Queue somebody whom another process has admitted, since then: no rule of this queue refuses it."""
        if self._speech is not None:
            waiter.estimate_s = self._speech.estimate_s(waiter.demand)
            if not again:
                self._speech.callers.ask(waiter.demand.caller, waiter.estimate_s, now)
        self._queue = dict.fromkeys(sorted((*self._queue, waiter), key=attrgetter("since")))
        return self._settle(now)

    def has_blameless(self, now: float) -> bool:
        """Whether a ready endpoint has failed nobody lately: otherwise it is the pool as a whole that is bad."""
        return any(now - endpoint.failed_at > FORGIVEN_S for endpoint in self._ready)

    def admit_in_panic(self, tried: frozenset[Endpoint], demand: Demand, now: float) -> Lease | None:
        """Lease a slot of an endpoint that is not ready but accepts connections."""
        usable = [e for e in self.endpoints if e.usable_in_panic and e not in tried]
        endpoint = least_inflight(usable, self._roll)
        return None if endpoint is None else self._lease(endpoint, demand, now)

    def may_hedge(self, lease: Lease, now: float, tried: frozenset[Endpoint] = NOBODY) -> bool:
        """Whether a second attempt is due beside this one, and count it if so.

        It is when the first byte is later than 95 of 100 would be, nobody waits, and somebody has nothing to do
        whom the request was not sent to before: `tried` are those who had it before this lease's endpoint. A greedy
        caller gets no slot by it that is left free for others.
        """
        return (
            self._speech is not None
            and not self._queue
            and self._speech.is_late(lease, now)
            and any(
                not one.inflight and one.free for one in self._ready if one is not lease.endpoint and one not in tried
            )
            and not self._speech.must_wait(lease.demand, self._ready, now)
            and self.budget.take_hedge(now)
        )

    def leave(self, waiter: Waiter) -> None:
        """Give up a place in the queue."""
        self._queue.pop(waiter, None)
        if self.retired is not None:
            self.retired.left(waiter)

    def spoke(self, lease: Lease, now: float) -> None:
        """Take note of a lease's first byte of an answer's body."""
        if self._speech is not None:
            self._speech.spoke(lease, now)

    def release(self, lease: Lease, outcome: Outcome, now: float) -> Sequence[Event]:
        """End a lease, learn from its outcome, and hand the slot on."""
        if lease.released:
            raise RuntimeError("a lease is released once")
        lease.released = True
        endpoint = lease.endpoint
        endpoint.inflight -= 1
        if self._speech is not None:
            self._speech.released(lease, outcome, now)
        if outcome is SUCCEEDED:
            if endpoint.outlier.errors:
                endpoint.outlier.succeed()
            if endpoint.probation:
                endpoint.probation = False
                endpoint.refit(now)
        elif outcome is Outcome.FAILED:
            endpoint.failed_at = now
            if endpoint.outlier.fail():
                self._eject(endpoint, now)
        elif outcome is Outcome.REFUSED:
            if endpoint.health.refuse():
                self._flip(endpoint, now)
            self._refresh(now)
        return self._hand_on(lease, now) if self._queue or self.retired is not None else ()

    def _hand_on(self, lease: Lease, now: float) -> Sequence[Event]:
        if self.retired is not None:
            self.retired.ended(lease)
        return self._settle(now, lost=not lease.endpoint.ready)

    def observe(self, endpoint: Endpoint, result: ProbeResult, now: float) -> tuple[bool, Sequence[Event]]:
        """Take a probe's result; return whether the endpoint's health flipped, and what follows."""
        busy = now - endpoint.active_at < endpoint.probe.interval_s
        if result is ProbeResult.TIMED_OUT and busy:
            return False, ()
        known = endpoint.health.probed
        flipped = endpoint.health.observe(result)
        if flipped and known:
            self._flip(endpoint, now)
        return flipped, self.review(now)

    def review(self, now: float) -> Sequence[Event]:
        """Decide anew: something about endpoints has changed."""
        self._refresh(now)
        return self._settle(now)

    def enable(self, endpoint: Endpoint, now: float, *, enabled: bool) -> Sequence[Event]:
        """Let an endpoint take leases, or drain it, as its operator says."""
        endpoint.enabled = self._by_hand[endpoint.address.decode()].enabled = enabled
        return self.review(now)

    def set_named(self, endpoint: Endpoint, now: float, *, named: bool) -> Sequence[Event]:
        """Drain an endpoint that is to leave, or let it stay after all; what its operator says is another matter."""
        endpoint.named = named
        return self.review(now)

    def resize(self, endpoint: Endpoint, slots: int, now: float) -> Sequence[Event]:
        """Give an endpoint another number of slots; with fewer, its open leases end as they would."""
        endpoint.slots = self._by_hand[endpoint.address.decode()].slots = slots
        endpoint.refit(now)
        return self._settle(now)

    def weigh(self, endpoint: Endpoint, weight: float) -> None:
        """Give an endpoint another weight; its open leases stay."""
        endpoint.weight = self._by_hand[endpoint.address.decode()].weight = weight

    def reconfigure(self, settings: PoolSettings, now: float) -> Sequence[Event]:
        """Go by other settings from now on, of the same kind; what operators have set holds on."""
        self.settings = settings
        if self._speech is not None:
            self._speech.overdue_s = settings.overdue_s
        for endpoint in self.endpoints:
            by_hand = self._by_hand.get(endpoint.address.decode())
            if by_hand is None or by_hand.slots is None:
                endpoint.slots = settings.slots
                endpoint.refit(now)
        return self._settle(now)

    def obey(self, by_hand: Mapping[str, ByHand], now: float) -> None:
        """Take over, before the first lease, what operators have set of endpoints, by their addresses."""
        self._by_hand.update(by_hand)
        for endpoint in self.endpoints:
            if endpoint.address.decode() in by_hand:
                endpoint.obey(by_hand[endpoint.address.decode()])
        self._refresh(now)

    def join(self, endpoint: Endpoint) -> None:
        """Take in an endpoint; it serves after its first good probe, slowly at first where others are ready.

        Whatever an operator has set of one at this address before holds for it, too.
        """
        if endpoint.address.decode() in self._by_hand:
            endpoint.obey(self._by_hand[endpoint.address.decode()])
        endpoint.returning = self._served
        self.endpoints.append(endpoint)
        for shared in (self.lender, self.retired):
            if shared is not None:
                shared.joined(endpoint)

    def remove(self, endpoint: Endpoint, now: float) -> Sequence[Event]:
        """Forget an endpoint; its open leases end by themselves."""
        self.endpoints.remove(endpoint)
        if self._speech is not None:
            self._speech.forget(endpoint)
        return self.review(now)

    def tick(self, now: float) -> Sequence[Event]:
        """Let time pass: ejections end, and who has waited too long is told."""
        self.budget.fade(now)
        forgiven = self.retired is not None and self.retired.forgive(now)
        ended = [endpoint for endpoint in self.endpoints if endpoint.outlier.end(now)]
        for endpoint in ended:
            endpoint.probation = True
            endpoint.older = endpoint.inflight
        if ended or forgiven:
            self._refresh(now)
        starting = [endpoint for endpoint in self._ready if endpoint.limit < endpoint.slots]
        for endpoint in starting:
            endpoint.refit(now)
        expired: list[Event] = [Expired(waiter) for waiter in self._queue if now >= waiter.until]
        for event in expired:
            del self._queue[event.waiter]
        if ended or (starting and self._queue) or self.retired is not None:
            expired += self._settle(now)
        return expired

    def retire(self, retired: Retired, now: float) -> Mapping[Endpoint, list[Holding]]:
        """Leave it to a successor who may have slots; return who holds them. Once more, it is another successor."""
        self.hedges, self.retired = False, retired
        if self._speech is not None:
            return self._speech.retire(self.endpoints, now)
        return {endpoint: [Holding(caller="", left_s=0.0)] * endpoint.inflight for endpoint in self.endpoints}

    def hold(self, endpoint: Endpoint, demand: Demand, since: float, estimate_s: float) -> Lease:
        """Return a lease for one that another process holds, whatever the slots are; it is released as any other."""
        endpoint.inflight += 1
        lease = Lease(self, endpoint, demand, since, estimate_s)
        if self._speech is not None:
            self._speech.held(lease)
        return lease

    def _lease(self, endpoint: Endpoint, demand: Demand, now: float) -> Lease:
        endpoint.inflight += 1
        lease = Lease(self, endpoint, demand, now)
        if self._speech is not None:
            self._speech.leased(lease)
        return lease

    def _choose(self, tried: frozenset[Endpoint], demand: Demand, now: float) -> Endpoint | None:
        endpoints = [endpoint for endpoint in self._ready if endpoint not in tried] if tried else self._ready
        if self._speech is not None:
            return self._speech.choose(endpoints, demand, now)
        return least_inflight(endpoints, self._roll)

    def _eject(self, endpoint: Endpoint, now: float) -> None:
        if self._may_eject():
            endpoint.outlier.eject(now, self._jitter())
            self._refresh(now)

    def _flip(self, endpoint: Endpoint, now: float) -> None:
        if endpoint.outlier.flip(now) and self._may_eject():
            endpoint.outlier.eject_flapping(now)

    def _may_eject(self) -> bool:
        ejected = sum(other.outlier.ejected for other in self.endpoints)
        return may_eject(ejected, sum(not other.absent for other in self.endpoints))

    def _refresh(self, now: float) -> None:
        before, self._ready = self._ready, [endpoint for endpoint in self.endpoints if endpoint.ready]
        for endpoint in self._ready:
            if endpoint in before:
                continue
            # Alone it must take all at once; at the start all come one after the other.
            endpoint.returned_at = now if endpoint.returning and before else -inf
            endpoint.older = endpoint.inflight
            endpoint.returning = True
            endpoint.refit(now)
        if self._ready and not before:
            self.returned_at = now if self._served else -inf
            self._served = True

    def _settle(self, now: float, *, lost: bool = True) -> list[Event]:
        """Hand free slots to waiters in order; send away those whom no ready endpoint may serve.

        Unless an endpoint may have been `lost`, nobody is to be sent away, and the first who must wait ends the search.
        """
        events: list[Event] = []
        full = False
        waiters: Collection[Waiter] = self._queue
        speech = self._speech
        if speech is not None:
            waiters = speech.order(waiters, self._ready, now)
        for waiter in waiters:
            if full and not waiter.tried:
                continue
            held = speech is not None and speech.must_wait(waiter.demand, self._ready, now)
            endpoint = None if held else self._choose(waiter.tried, waiter.demand, now)
            if endpoint is not None:
                events.append(Granted(waiter, self._lease(endpoint, waiter.demand, now)))
            elif not self.can_serve(waiter.tried):
                events.append(Displaced(waiter))
            elif not (held or waiter.tried):
                full = True  # every slot is taken, but those who may have none of them are still sent away
                if not lost:
                    break
        for event in events:
            del self._queue[event.waiter]
        if self.retired is not None:
            self.retired.settle(self._queue, self._ready, now)
        return events
