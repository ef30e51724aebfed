"""Slots and the queue of one pool: who is served, who waits, who is sent away."""

import pytest

from pools.admission import Displaced, Expired, Granted, Lease, Outcome, Refusal
from pools.demand import UNKNOWN
from pools.settings import ProbeSettings
from tests.pools.building import BAD, GOOD, REFUSED, TIMED_OUT, lease, lease_granted, make_endpoint, make_pool, wait


def test_slots_are_hard() -> None:
    """Two endpoints of two slots serve four; the fifth waits."""
    a, b = make_endpoint("a", slots=2), make_endpoint("b", slots=2)
    pool = make_pool(a, b)
    leases = [lease(pool) for _ in range(4)]
    assert {one.endpoint for one in leases} == {a, b}
    wait(pool)
    assert (a.inflight, b.inflight, pool.inflight, pool.waiting) == (2, 2, 4, 1)


def test_a_freed_slot_goes_to_whoever_waited_longest() -> None:
    """And to nobody else."""
    pool = make_pool(make_endpoint())
    held = lease(pool)
    first, second = wait(pool), wait(pool)
    (event,) = pool.release(held, Outcome.SUCCEEDED, 1.0)
    assert isinstance(event, Granted)
    assert event.waiter is first
    (event,) = pool.release(event.lease, Outcome.SUCCEEDED, 2.0)
    assert event.waiter is second
    assert pool.waiting == 0


def test_a_lease_is_released_once() -> None:
    """A second release is a fault of the program."""
    pool = make_pool(make_endpoint())
    held = lease(pool)
    assert pool.release(held, Outcome.SUCCEEDED, 0.0) == ()
    with pytest.raises(RuntimeError, match="released once"):
        pool.release(held, Outcome.SUCCEEDED, 0.0)
    assert pool.inflight == 0


def test_a_full_queue_refuses() -> None:
    """The limit is what may wait, not what may be served."""
    pool = make_pool(make_endpoint(), limit=1)
    lease(pool)
    wait(pool)
    assert pool.admit("caller", 0.0) is Refusal.QUEUE_FULL


def test_without_a_ready_endpoint_nobody_waits() -> None:
    """Before the first good probe, for instance."""
    a = make_endpoint()
    pool = make_pool(a, ready=False)
    assert not pool.probed
    assert pool.admit("caller", 0.0) is Refusal.NO_ENDPOINT
    assert pool.observe(a, GOOD, 0.0) == (True, [])
    assert pool.probed
    lease(pool)


def test_absent_endpoints_are_not_waited_for() -> None:
    """A pool's first round of probes is over without them."""
    a = make_endpoint()
    pool = make_pool(make_endpoint("b", absent=True), a, ready=False)
    assert not pool.probed
    pool.observe(a, BAD, 0.0)
    assert pool.probed
    assert not pool.ready


def test_an_endpoint_that_was_tried_is_not_given_again() -> None:
    """Who has tried every ready endpoint is refused; who may try another waits for that one."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    held = lease(pool, tried=[a])
    assert held.endpoint is b
    waiter = wait(pool, tried=[a])
    assert pool.admit("caller", 0.0, frozenset({a, b})) is Refusal.NO_ENDPOINT
    (event,) = pool.release(held, Outcome.SUCCEEDED, 0.0)
    assert isinstance(event, Granted)
    assert (event.waiter, event.lease.endpoint) == (waiter, b)


def test_who_comes_later_takes_a_slot_that_no_waiter_may_have() -> None:
    """A free slot is never left idle beside a queue."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    lease(pool, tried=[a])
    wait(pool, tried=[a])
    assert lease(pool).endpoint is a


def test_a_waiter_that_may_not_have_the_freed_slot_is_passed_over() -> None:
    """It keeps its place for the slots that it may have."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    on_a, on_b = lease(pool, tried=[b]), lease(pool, tried=[a])
    picky, easy = wait(pool, tried=[a]), wait(pool)
    (event,) = pool.release(on_a, Outcome.SUCCEEDED, 0.0)
    assert event.waiter is easy
    (event,) = pool.release(on_b, Outcome.SUCCEEDED, 0.0)
    assert event.waiter is picky


def test_a_caller_may_leave_the_queue() -> None:
    """Its place is gone; leaving twice, or after a grant, changes nothing."""
    pool = make_pool(make_endpoint())
    held = lease(pool)
    waiter = wait(pool)
    pool.leave(waiter)
    pool.leave(waiter)
    assert pool.waiting == 0
    assert pool.release(held, Outcome.SUCCEEDED, 0.0) == ()


def test_who_has_waited_too_long_is_told() -> None:
    """Not a moment before, and those behind wait on."""
    pool = make_pool(make_endpoint(), timeout_s=30.0)
    lease(pool)
    old, young = wait(pool, 1.0), wait(pool, 2.0)
    assert pool.tick(30.9) == []
    assert pool.tick(31.0) == [Expired(old)]
    assert pool.waiting == 1
    assert pool.tick(40.0) == [Expired(young)]


def test_a_refused_connect_takes_the_endpoint_out_at_once() -> None:
    """Its waiters are sent away where nobody else may serve them."""
    pool = make_pool(make_endpoint())
    held = lease(pool)
    waiter = wait(pool)
    assert pool.release(held, Outcome.REFUSED, 0.0) == [Displaced(waiter)]
    assert not pool.ready


@pytest.mark.parametrize("how", ["drained", "refused", "removed"])
def test_whom_no_ready_endpoint_may_serve_is_sent_away_from_any_place(how: str) -> None:
    """Also from behind someone who may wait on."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    lease(pool, tried=[b])
    on_b = lease(pool, tried=[a])
    wait(pool)
    picky = wait(pool, tried=[a])
    events = {
        "drained": lambda: pool.enable(b, 0.0, enabled=False),
        "refused": lambda: pool.release(on_b, Outcome.REFUSED, 0.0),
        "removed": lambda: pool.remove(b, 0.0),
        "no longer named": lambda: pool.set_named(b, 0.0, named=False),
    }[how]()
    assert events == [Displaced(picky)]
    assert pool.waiting == 1


def test_draining_ends_no_lease_and_gives_none() -> None:
    """An operator drains, waits until nothing is open, and enables again."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    held = lease(pool, tried=[b])
    assert pool.enable(a, 0.0, enabled=False) == []
    assert lease(pool).endpoint is b
    waiter = wait(pool)
    assert pool.release(held, Outcome.SUCCEEDED, 0.0) == []
    granted = pool.enable(a, 0.0, enabled=True)
    assert lease_granted(granted).endpoint is a
    assert granted[0].waiter is waiter


def test_what_an_operator_drained_is_not_enabled_by_being_named_again() -> None:
    """Who may have leases and who is still named are two questions; both must say yes, also in panic."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    pool.enable(a, 0.0, enabled=False)
    for named in (False, True):
        assert not pool.set_named(a, 0.0, named=named)
        assert not a.ready
        assert not a.usable_in_panic
    pool.set_named(b, 0.0, named=False)
    assert not b.usable_in_panic
    pool.enable(b, 0.0, enabled=True)
    assert not b.ready
    pool.set_named(b, 0.0, named=True)
    pool.enable(a, 0.0, enabled=True)
    assert a.ready
    assert b.ready


def test_what_an_operator_set_holds_for_one_that_joins_again() -> None:
    """What was left alone is as it is configured, or as DNS says."""
    drained, sized, weighed, other = (make_endpoint(name, slots=2) for name in "abcd")
    pool = make_pool(drained, sized, weighed, other)
    pool.enable(drained, 0.0, enabled=False)
    pool.resize(sized, 7, 0.0)
    pool.weigh(weighed, 2.5)
    for endpoint in (drained, sized, weighed, other):
        pool.remove(endpoint, 0.0)
        again = make_endpoint(endpoint.name, slots=2)
        again.weight = 0.5
        pool.join(again)
        pool.observe(again, GOOD, 0.0)
    found = {one.name: (one.ready, one.slots, one.weight) for one in pool.endpoints}
    assert found == {"a": (False, 2, 0.5), "b": (True, 7, 0.5), "c": (True, 2, 2.5), "d": (True, 2, 0.5)}


def test_endpoints_come_and_go() -> None:
    """One that joins serves after its first good probe; one that is removed ends its leases in peace."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a)
    held = lease(pool)
    waiter = wait(pool)
    pool.join(b)
    assert not pool.probed
    flipped, events = pool.observe(b, GOOD, 1.0)
    assert flipped
    assert lease_granted(events).endpoint is b
    assert events[0].waiter is waiter
    assert pool.remove(a, 0.0) == []
    assert pool.inflight == 1
    assert pool.release(held, Outcome.SUCCEEDED, 2.0) == ()
    assert a.inflight == 0


def test_a_probe_that_times_out_while_bytes_flow_does_not_count() -> None:
    """Busy is not down: three such probes in a row change nothing, without the bytes they do."""
    a = make_endpoint(probe=ProbeSettings(interval_s=2.0))
    pool = make_pool(a)
    a.active_at = 8.1
    for now in (8.0, 9.0, 10.0):
        assert pool.observe(a, TIMED_OUT, now) == (False, ())
    assert a.ready
    assert [pool.observe(a, TIMED_OUT, now)[0] for now in (12.0, 14.0, 16.0)] == [False, False, True]
    assert not a.ready


def test_bytes_excuse_a_slow_probe_and_nothing_else() -> None:
    """Errors and refusals count, however busy the endpoint is."""
    a = make_endpoint()
    pool = make_pool(a)
    a.active_at = 10.0
    assert [pool.observe(a, BAD, 10.0)[0] for _ in range(3)] == [False, False, True]
    pool = make_pool(b := make_endpoint("b"))
    b.active_at = 10.0
    assert pool.observe(b, REFUSED, 10.0)[0]


def test_in_panic_slots_are_hard_too() -> None:
    """An endpoint that accepts connections serves as many as it has slots for, unless it was tried."""
    a = make_endpoint()
    pool = make_pool(a, ready=False)
    pool.observe(a, BAD, 0.0)
    assert pool.admit_in_panic(frozenset({a}), UNKNOWN, 0.0) is None
    held = pool.admit_in_panic(frozenset(), UNKNOWN, 0.0)
    assert isinstance(held, Lease)
    assert pool.admit_in_panic(frozenset(), UNKNOWN, 0.0) is None


def test_nothing_is_learned_of_requests_that_are_no_speech() -> None:
    """Their first byte changes nothing."""
    pool = make_pool(make_endpoint())
    held = lease(pool)
    pool.spoke(held, 5.0)
    assert pool.release(held, Outcome.SUCCEEDED, 6.0) == ()


def test_slots_may_change_while_requests_run() -> None:
    """More are given to those who wait at once; with fewer, open leases end as they would."""
    a = make_endpoint()
    pool = make_pool(a)
    first = lease(pool)
    waiter = wait(pool)
    (event,) = pool.resize(a, 2, 0.0)
    assert isinstance(event, Granted)
    assert event.waiter is waiter
    assert not pool.resize(a, 1, 0.0)
    wait(pool)
    assert not pool.release(first, Outcome.SUCCEEDED, 0.0), "one is still open, and one is all"
    assert len(pool.release(event.lease, Outcome.SUCCEEDED, 0.0)) == 1
