"""Which pool serves: the first that can, and in panic any that still accepts connections."""

from pools.admission import Lease, Outcome, Refusal, Waiter
from pools.tiers import Tiers
from tests.pools.building import BAD, GOOD, REFUSED, fail, make_endpoint, make_pool


def test_the_first_tier_serves_while_it_is_ready() -> None:
    """Also when a slot is free only further down: its callers wait."""
    a, b = make_endpoint("a"), make_endpoint("b")
    first, second = make_pool(a), make_pool(b)
    tiers = Tiers([first, second])
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.pool is first
    waiter = tiers.admit("caller", 0.0)
    assert isinstance(waiter, Waiter)
    assert waiter.pool is first
    assert b.inflight == 0


def test_the_next_tier_serves_when_the_first_has_no_ready_endpoint() -> None:
    """And the first again when it has had one for ten seconds, or when nobody else has."""
    a, b = make_endpoint("a"), make_endpoint("b", slots=2)
    first, second = make_pool(a), make_pool(b)
    tiers = Tiers([first, second])
    first.observe(a, REFUSED, 0.0)
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.endpoint is b
    first.observe(a, GOOD, 1.0)
    first.observe(a, GOOD, 1.2)
    lease = tiers.admit("caller", 11.1)
    assert isinstance(lease, Lease)
    assert lease.endpoint is b
    second.observe(b, REFUSED, 11.1)
    lease = tiers.admit("caller", 11.1)
    assert isinstance(lease, Lease)
    assert lease.endpoint is a
    first.release(lease, Outcome.SUCCEEDED, 11.2)
    for at in (11.2, 11.3):
        second.observe(b, GOOD, at)
    lease = tiers.admit("caller", 11.3)
    assert isinstance(lease, Lease)
    assert lease.endpoint is a, "it has been back for ten seconds"


def test_the_next_tier_serves_when_the_first_ones_queue_is_full() -> None:
    """A full queue is the answer only where no tier has room."""
    first, second = make_pool(make_endpoint("a"), limit=0), make_pool(make_endpoint("b"), limit=0)
    tiers = Tiers([first, second])
    assert isinstance(tiers.admit("caller", 0.0), Lease)
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.pool is second
    assert tiers.admit("caller", 0.0) is Refusal.QUEUE_FULL


def test_who_has_tried_all_of_the_first_tier_gets_the_next() -> None:
    """And a refusal when every tier's ready endpoints were tried: that is no panic."""
    a, b = make_endpoint("a"), make_endpoint("b")
    tiers = Tiers([make_pool(a), make_pool(b)])
    lease = tiers.admit("caller", 0.0, frozenset({a}))
    assert isinstance(lease, Lease)
    assert lease.endpoint is b
    assert tiers.can_serve(frozenset({a}))
    assert not tiers.can_serve(frozenset({a, b}))
    assert tiers.admit("caller", 0.0, frozenset({a, b})) is Refusal.NO_ENDPOINT


def test_who_has_tried_every_ready_endpoint_is_no_case_for_panic() -> None:
    """An endpoint that answers errors is not asked while another is ready, though not for this caller."""
    a, b = make_endpoint("a"), make_endpoint("b")
    second = make_pool(b, ready=False)
    second.observe(b, BAD, 0.0)
    assert Tiers([make_pool(a), second]).admit("caller", 0.0, frozenset({a})) is Refusal.NO_ENDPOINT


def test_panic_only_when_no_tier_is_ready() -> None:
    """While one is, an endpoint that answers errors serves nobody."""
    a, b = make_endpoint("a"), make_endpoint("b")
    first, second = make_pool(a, ready=False), make_pool(b, limit=0)
    tiers = Tiers([first, second])
    first.observe(a, BAD, 0.0)
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.endpoint is b
    assert tiers.admit("caller", 0.0) is Refusal.QUEUE_FULL
    second.observe(b, REFUSED, 0.0)
    assert not tiers.ready
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.endpoint is a


def test_panic_uses_only_endpoints_that_accept_connections() -> None:
    """In the order of the tiers; where nobody does, the caller is refused."""
    a, b = make_endpoint("a"), make_endpoint("b")
    first, second = make_pool(a, ready=False), make_pool(b, ready=False)
    tiers = Tiers([first, second])
    assert tiers.admit("caller", 0.0) is Refusal.NO_ENDPOINT
    first.observe(a, REFUSED, 0.0)
    second.observe(b, BAD, 0.0)
    lease = tiers.admit("caller", 0.0)
    assert isinstance(lease, Lease)
    assert lease.endpoint is b
    assert tiers.admit("caller", 0.0) is Refusal.NO_ENDPOINT, "its one slot is taken"
    assert second.release(lease, Outcome.FAILED, 0.0) == ()


def test_an_ejected_endpoint_serves_in_panic() -> None:
    """Better an endpoint that errs now and then than none."""
    a = make_endpoint()
    pool = make_pool(a)
    fail(pool, a, times=5)
    assert not pool.ready
    assert isinstance(Tiers([pool]).admit("caller", 0.0), Lease)


def test_all_tiers_are_probed_first() -> None:
    """The first round is over when every pool's is."""
    a, b = make_endpoint("a"), make_endpoint("b")
    second = make_pool(b, ready=False)
    tiers = Tiers([make_pool(a), second])
    assert tiers.ready
    assert not tiers.probed
    second.observe(b, BAD, 0.0)
    assert tiers.probed
