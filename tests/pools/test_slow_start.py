"""An endpoint that returns among ready ones gets its slots little by little."""

from pools.admission import Granted, Outcome
from pools.endpoint import SLOW_START_S
from tests.pools.building import GOOD, REFUSED, lease, make_endpoint, make_pool, wait


def test_at_the_start_all_slots_are_there() -> None:
    """Though endpoints become ready one after the other."""
    a, b = make_endpoint("a", slots=4), make_endpoint("b", slots=4)
    make_pool(a, b)
    assert (a.free, b.free) == (4, 4)


def test_a_returning_endpoint_starts_with_one_slot() -> None:
    """And has all of them after half a minute; whoever waits is served as they come."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=1)
    pool = make_pool(a, b)
    pool.observe(a, REFUSED, 0.0)
    lease(pool, 0.0)
    pool.observe(a, GOOD, 1.0)
    pool.observe(a, GOOD, 1.2)
    assert a.free == 1
    assert lease(pool, 1.3).endpoint is a
    waiters = [wait(pool, 1.3) for _ in range(2)]
    assert pool.tick(1.2 + SLOW_START_S * 0.3) == []
    for waiter, at in zip(waiters, (0.4, 0.7), strict=True):
        (event,) = pool.tick(1.2 + SLOW_START_S * at)
        assert isinstance(event, Granted)
        assert event.waiter is waiter
        assert event.lease.endpoint is a
    pool.tick(1.3 + SLOW_START_S)
    assert a.limit == 3


def test_alone_it_takes_all_at_once() -> None:
    """Nobody else could."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = make_pool(a, b)
    for endpoint in (a, b):
        pool.observe(endpoint, REFUSED, 0.0)
    pool.observe(a, GOOD, 1.0)
    pool.observe(a, GOOD, 1.2)
    assert a.free == 3


def test_one_that_joins_starts_slowly_too() -> None:
    """It may be cold."""
    pool = make_pool(make_endpoint("a", slots=3))
    b = make_endpoint("b", slots=3)
    pool.join(b)
    pool.observe(b, GOOD, 5.0)
    assert b.free == 1


def test_after_an_ejection_one_slot_is_proved_first() -> None:
    """However long that takes."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = make_pool(a, b)
    for _ in range(5):
        pool.release(lease(pool, 0.0, tried=[b]), Outcome.FAILED, 0.0)
    assert not a.ready
    pool.tick(30.0)
    pool.tick(90.0)
    assert (a.ready, a.free) == (True, 1)
    pool.release(lease(pool, 90.0, tried=[b]), Outcome.SUCCEEDED, 91.0)
    assert a.free == 3
