"""Two tiers under any sequence of events, held against the simplest model of what they promise."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pools.admission import Displaced, Event, Expired, Granted, Lease, Outcome, Refusal, Waiter
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.outlier import CONSECUTIVE_ERRORS, may_eject
from pools.pool import NOBODY, Pool
from pools.tiers import Tiers
from tests.pools.building import BAD, GOOD, REFUSED, TIMED_OUT, UNTRUSTED, make_endpoint, make_pool

TIMEOUT_S = 5.0
LIMIT = 3
MOST_ENDPOINTS = 5


def usable(endpoint: Endpoint, tried: frozenset[Endpoint]) -> bool:
    """Whether an endpoint may serve a caller that has tried some."""
    return endpoint.ready and endpoint not in tried


class PoolsMachine(RuleBasedStateMachine):
    """Callers, endpoints and time in any order; the model knows every open lease and every waiter's fate."""

    def __init__(self) -> None:
        super().__init__()
        first = make_pool(make_endpoint("a"), make_endpoint("b", slots=2), limit=LIMIT, timeout_s=TIMEOUT_S)
        second = make_pool(make_endpoint("c"), limit=LIMIT, timeout_s=TIMEOUT_S)
        self.tiers = Tiers([first, second])
        self.known = [*first.endpoints, *second.endpoints]
        self.now = 0.0
        self.open: list[Lease] = []
        self.waiting: list[Waiter] = []
        self.fates: dict[Waiter, str | None] = {}

    # --- callers

    @rule(data=st.data())
    def admit_one(self, data: st.DataObject) -> None:
        """Ask for a slot after some attempts."""
        self.admit(data.draw(st.frozensets(st.sampled_from(self.endpoints), max_size=2)))

    @rule(data=st.data(), callers=st.integers(3, 6))
    def admit_crowd(self, data: st.DataObject, callers: int) -> None:
        """Ask for more slots than there may be, now and then after an attempt at the first tier."""
        endpoints = self.tiers.pools[0].endpoints
        tried = [NOBODY, *(frozenset({endpoint}) for endpoint in endpoints)]
        for _ in range(callers):
            self.admit(data.draw(st.sampled_from(tried)))

    def admit(self, tried: frozenset[Endpoint]) -> None:
        """Ask for a slot, and note the answer."""
        free = {pool: self.free(pool, tried) for pool in self.tiers.pools}
        panic = not any(usable(endpoint, NOBODY) for endpoint in self.endpoints)
        admission = self.tiers.admit("caller", self.now, tried)
        if isinstance(admission, Lease):
            self.take_lease(admission, tried, free[admission.pool], panic=panic)
        elif isinstance(admission, Waiter):
            assert any(usable(endpoint, tried) for endpoint in admission.pool.endpoints)
            self.waiting.append(admission)
            self.fates[admission] = None
        else:
            self.check_refusal(admission, tried, free)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def release(self, data: st.DataObject, outcome: Outcome) -> None:
        """End a lease in any way; a second end is refused and changes nothing."""
        self.end(data.draw(st.sampled_from(self.open)), outcome)

    @rule(data=st.data())
    def fail_in_a_row(self, data: st.DataObject) -> None:
        """Have one endpoint answer with errors until it has earned an ejection."""
        pool, endpoint = self.pick(data)
        for _ in range(CONSECUTIVE_ERRORS):
            if not endpoint.ready or endpoint.free <= 0:
                return
            others = frozenset(self.known) - {endpoint}
            lease = pool.admit("caller", self.now, others)
            assert isinstance(lease, Lease)
            self.take_lease(lease, others, [endpoint], panic=False)
            self.end(lease, Outcome.FAILED)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Give up waiting."""
        waiter = data.draw(st.sampled_from(self.waiting))
        waiter.pool.leave(waiter)
        self.seal(waiter, "left")

    # --- endpoints

    @rule(data=st.data(), result=st.sampled_from([GOOD, GOOD, GOOD, *ProbeResult]), busy=st.booleans())
    def probe(self, data: st.DataObject, result: ProbeResult, *, busy: bool) -> None:
        """Find something about an endpoint."""
        pool, endpoint = self.pick(data)
        endpoint.active_at = self.now if busy else float("-inf")
        healthy, probed = endpoint.health.healthy, endpoint.health.probed
        flipped, events = pool.observe(endpoint, result, self.now)
        assert flipped is (endpoint.health.healthy is not healthy)
        if result is GOOD:
            assert endpoint.health.healthy or probed
        elif result in {REFUSED, UNTRUSTED}:
            assert not endpoint.health.healthy
        elif result is TIMED_OUT and busy:
            assert not flipped
        else:
            assert result in {BAD, TIMED_OUT}
            assert endpoint.health.healthy <= healthy
        self.take(events)

    @rule(data=st.data(), enabled=st.booleans())
    def enable(self, data: st.DataObject, *, enabled: bool) -> None:
        """Drain an endpoint, or take it back."""
        pool, endpoint = self.pick(data)
        self.take(pool.enable(endpoint, self.now, enabled=enabled))

    @rule(data=st.data(), named=st.booleans())
    def name(self, data: st.DataObject, *, named: bool) -> None:
        """Have DNS name an endpoint no longer, or again."""
        pool, endpoint = self.pick(data)
        self.take(pool.set_named(endpoint, self.now, named=named))

    @rule()
    def recover(self) -> None:
        """Have every endpoint found well, and taken back."""
        for pool in self.tiers.pools:
            for endpoint in pool.endpoints:
                self.take(pool.enable(endpoint, self.now, enabled=True))
                self.take(pool.set_named(endpoint, self.now, named=True))
                for _ in range(endpoint.probe.rise):
                    self.take(pool.observe(endpoint, GOOD, self.now)[1])

    @precondition(lambda self: len(self.endpoints) < MOST_ENDPOINTS)
    @rule(data=st.data(), slots=st.integers(1, 2))
    def join(self, data: st.DataObject, slots: int) -> None:
        """Add an endpoint."""
        endpoint = make_endpoint(f"joined-{len(self.known)}", slots=slots)
        self.known.append(endpoint)
        data.draw(st.sampled_from(self.tiers.pools)).join(endpoint)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Forget an endpoint, whatever it is doing."""
        pool, endpoint = self.pick(data)
        if len(pool.endpoints) > 1:
            self.take(pool.remove(endpoint, self.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.9, 5.0, 31.0, 331.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        for pool in self.tiers.pools:
            self.take(pool.tick(self.now))

    # --- the model

    @property
    def endpoints(self) -> list[Endpoint]:
        """Endpoints that are in a pool now."""
        return [endpoint for pool in self.tiers.pools for endpoint in pool.endpoints]

    def pick(self, data: st.DataObject) -> tuple[Pool, Endpoint]:
        """Choose any endpoint of any pool."""
        pool = data.draw(st.sampled_from(self.tiers.pools))
        return pool, data.draw(st.sampled_from(pool.endpoints))

    def free(self, pool: Pool, tried: frozenset[Endpoint]) -> list[Endpoint]:
        """Return a pool's ready endpoints with a free slot for this caller."""
        return [endpoint for endpoint in pool.endpoints if usable(endpoint, tried) and endpoint.free > 0]

    def take_lease(self, lease: Lease, tried: frozenset[Endpoint], free: list[Endpoint], *, panic: bool) -> None:
        """Note a lease: on the least busy endpoint that was free for this caller, or in panic on one that accepts."""
        endpoint = lease.endpoint
        assert endpoint not in tried
        if panic:
            assert endpoint.health.accepting
            assert endpoint.enabled
            assert endpoint.named
        else:
            assert endpoint in free
            assert endpoint.inflight - 1 == min(other.inflight - (other is endpoint) for other in free)
        if endpoint.limit == 1:
            assert endpoint.inflight == 1
        self.open.append(lease)

    def check_refusal(self, refusal: Refusal, tried: frozenset[Endpoint], free: dict[Pool, list[Endpoint]]) -> None:
        """Check that a refusal is true: there was no slot, and no queue to wait in."""
        assert not any(free.values())
        for pool in self.tiers.pools:
            can_serve = any(usable(endpoint, tried) for endpoint in pool.endpoints)
            assert not can_serve or (refusal is Refusal.QUEUE_FULL and pool.waiting == LIMIT)
        assert refusal is not Refusal.QUEUE_TIMEOUT

    def end(self, lease: Lease, outcome: Outcome) -> None:
        """Release a lease, and check what an error may lead to."""
        pool = lease.pool
        ejected = sum(endpoint.outlier.ejected for endpoint in pool.endpoints)
        self.open.remove(lease)
        self.take(pool.release(lease, outcome, self.now))
        if sum(endpoint.outlier.ejected for endpoint in pool.endpoints) > ejected:
            assert may_eject(ejected, len(pool.endpoints))
            assert outcome is Outcome.FAILED or lease.endpoint.outlier.flapping
        try:
            pool.release(lease, outcome, self.now)
        except RuntimeError:
            return
        raise AssertionError("a lease was released twice")

    def take(self, events: Sequence[Event]) -> None:
        """Note what became of waiters, in the order in which it is told."""
        for event in events:
            waiter = event.waiter
            before = self.waiting[: self.waiting.index(waiter)]
            self.seal(waiter, type(event).__name__)
            if isinstance(event, Granted):
                older = [other for other in before if other.pool is waiter.pool and not other.tried]
                assert not older, "first come, first served"
                assert event.lease.endpoint.ready
                assert event.lease.endpoint not in waiter.tried
                self.open.append(event.lease)
            elif isinstance(event, Displaced):
                assert not any(usable(endpoint, waiter.tried) for endpoint in waiter.pool.endpoints)
            else:
                assert isinstance(event, Expired)
                assert self.now >= waiter.until >= waiter.since + TIMEOUT_S

    def seal(self, waiter: Waiter, fate: str) -> None:
        """Note a waiter's one fate."""
        assert self.fates[waiter] is None, "a waiter has one fate"
        self.fates[waiter] = fate
        self.waiting.remove(waiter)

    # --- what always holds

    @invariant()
    def counters_are_exact(self) -> None:
        """Every counter equals the model's, and slots are hard."""
        for endpoint in self.known:
            assert endpoint.inflight == sum(lease.endpoint is endpoint for lease in self.open)
            assert endpoint.inflight <= endpoint.slots
        for pool in self.tiers.pools:
            assert pool.waiting == sum(waiter.pool is pool for waiter in self.waiting) <= LIMIT
            assert pool.inflight == sum(endpoint.inflight for endpoint in pool.endpoints)
            for endpoint in pool.endpoints:
                assert pool.can_serve(frozenset(self.known) - {endpoint}) is endpoint.ready
        assert self.tiers.ready is any(endpoint.ready for endpoint in self.endpoints)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Every waiter has an endpoint to wait for, and none of those has a free slot."""
        for waiter in self.waiting:
            assert not self.free(waiter.pool, waiter.tried)
            assert any(usable(endpoint, waiter.tried) for endpoint in waiter.pool.endpoints)

    def teardown(self) -> None:
        """When all is released, every counter is zero, and every waiter has had its fate."""
        while self.open:
            self.end(self.open[0], Outcome.LEFT)
        for waiter in list(self.waiting):
            waiter.pool.leave(waiter)
            self.seal(waiter, "left")
        self.counters_are_exact()
        assert not any(endpoint.inflight for endpoint in self.known)
        assert not any(pool.waiting for pool in self.tiers.pools)
        assert all(self.fates.values())


PoolsMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
test_pools_keep_their_promises = PoolsMachine.TestCase
