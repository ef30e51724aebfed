"""Passive removal: five errors in a row, a growing pause, a cap, and a careful return."""

import pytest

from pools.admission import Displaced, Outcome, Refusal, Waiter
from pools.endpoint import Endpoint
from pools.outlier import may_eject
from pools.pool import Pool
from tests.pools.building import GOOD, REFUSED, fail, lease, lease_granted, make_endpoint, make_pool, wait


def test_five_errors_in_a_row_eject() -> None:
    """Four do not, and the fifth does at once."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    fail(pool, a, times=4)
    assert a.ready
    fail(pool, a, times=1)
    assert a.outlier.ejected
    assert pool.ready


def test_a_success_between_errors_begins_the_count_anew() -> None:
    """Only errors that follow each other count."""
    a = make_endpoint()
    pool = make_pool(a)
    fail(pool, a, times=4)
    pool.release(lease(pool), Outcome.SUCCEEDED, 0.0)
    fail(pool, a, times=4)
    assert a.ready


@pytest.mark.parametrize("outcome", [Outcome.LEFT, Outcome.REFUSED])
def test_what_is_no_answer_counts_for_nothing_here(outcome: Outcome) -> None:
    """A caller that leaves says nothing, and a refused connect is a matter of health."""
    a = make_endpoint()
    pool = make_pool(a)
    fail(pool, a, times=4)
    pool.release(lease(pool), outcome, 0.0)
    pool.observe(a, GOOD, 0.0)
    pool.observe(a, GOOD, 0.0)
    assert a.ready
    fail(pool, a, times=1)
    assert a.outlier.ejected


def test_an_ejection_ends_by_time_with_one_slot_until_a_success() -> None:
    """Not by a probe: an engine whose health page lies would return at once."""
    a = make_endpoint(slots=3)
    pool = make_pool(a)
    fail(pool, a, times=5)
    pool.observe(a, GOOD, 29.0)
    pool.tick(29.9)
    assert not a.ready
    pool.tick(30.0)
    assert a.ready
    first = lease(pool, 30.0)
    waiter = wait(pool, 30.0)
    events = pool.release(first, Outcome.LEFT, 31.0)
    second = lease_granted(events)
    assert events[0].waiter is waiter
    assert a.free == 0
    wait(pool, 31.0)
    wait(pool, 31.0)
    assert len(pool.release(second, Outcome.SUCCEEDED, 32.0)) == 2
    assert a.free == 1


def test_whoever_waits_is_served_when_an_ejection_ends() -> None:
    """The returned slot is handed to the first in the queue."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    fail(pool, a, times=5)
    lease(pool, 20.0)
    wait(pool, 20.0)
    assert not pool.tick(29.0)
    assert lease_granted(pool.tick(30.0)).endpoint is a


@pytest.mark.parametrize(
    ("ejections", "jitter", "length_s"),
    [(1, 0.0, 30.0), (2, 0.0, 60.0), (10, 0.0, 300.0), (11, 0.0, 300.0), (1, 1.0, 33.0), (20, 1.0, 330.0)],
)
def test_each_ejection_is_longer(ejections: int, jitter: float, length_s: float) -> None:
    """30 s times the ejections so far, at most 300 s, with up to a tenth of jitter on top."""
    a = make_endpoint()
    pool = make_pool(a, jitter=lambda: jitter)
    now = 0.0
    for _ in range(ejections):
        fail(pool, a, times=5, now=now)
        began, now = now, a.outlier.until
        pool.tick(now)
    assert now - began == pytest.approx(length_s)


def test_five_more_errors_after_a_return_eject_again() -> None:
    """Also while only one slot is given."""
    a = make_endpoint()
    pool = make_pool(a)
    fail(pool, a, times=5)
    pool.tick(30.0)
    fail(pool, a, times=4, now=30.0)
    assert a.ready
    fail(pool, a, times=1, now=30.0)
    assert a.outlier.until == 90.0


@pytest.mark.parametrize(
    ("ejected", "endpoints", "may"),
    [
        (0, 1, True),
        (1, 1, False),
        (0, 2, True),
        (1, 2, False),
        (1, 4, False),
        (1, 5, True),
        (2, 5, False),
        (3, 10, True),
    ],
)
def test_at_most_two_fifths_are_ejected_but_at_least_one(*, ejected: int, endpoints: int, may: bool) -> None:
    """The cap is taken of all endpoints of the pool."""
    assert may_eject(ejected, endpoints) is may


def test_the_cap_holds_in_the_pool() -> None:
    """Of five that all err, the third stays in; its next error ejects it once there is room."""
    endpoints = [make_endpoint(name) for name in "abcde"]
    pool = make_pool(*endpoints)
    for endpoint in endpoints:
        fail(pool, endpoint, times=5)
    assert [endpoint.outlier.ejected for endpoint in endpoints] == [True, True, False, False, False]
    pool.tick(30.0)
    fail(pool, endpoints[2], times=1, now=30.0)
    assert endpoints[2].outlier.ejected


def test_an_error_that_ends_during_an_ejection_does_not_lengthen_it() -> None:
    """Leases from before go on, and their errors come in after the fifth."""
    a = make_endpoint(slots=7)
    pool = make_pool(a)
    leases = [lease(pool) for _ in range(7)]
    for one in leases:
        pool.release(one, Outcome.FAILED, 0.0)
    assert a.outlier.ejections == 1
    assert a.outlier.until == 30.0


def test_an_ejection_sends_away_those_whom_nobody_else_may_serve() -> None:
    """Another tier may serve them."""
    a = make_endpoint(slots=2)
    pool = make_pool(a)
    fail(pool, a, times=4)
    last = lease(pool)
    lease(pool)
    waiter = wait(pool)
    assert pool.release(last, Outcome.FAILED, 0.0) == [Displaced(waiter)]
    assert not isinstance(pool.admit("caller", 0.0), Waiter)
    assert pool.admit("caller", 0.0) is Refusal.NO_ENDPOINT


def flap(pool: Pool, endpoint: Endpoint, *, times: int, now: float) -> None:
    """Have an endpoint's health flip, down first."""
    for number in range(times):
        for result in (GOOD, GOOD) if number % 2 else (REFUSED,):
            pool.observe(endpoint, result, now + number)


def test_an_endpoint_that_flaps_is_out_for_five_minutes() -> None:
    """Four flips are bad luck, the fifth says that nobody can rely on it; it comes back by time, with one slot."""
    a, b = make_endpoint("a", slots=4), make_endpoint("b")
    pool = make_pool(a, b)
    flap(pool, a, times=4, now=0.0)
    assert a.ready
    flap(pool, a, times=2, now=4.0)
    assert a.outlier.flapping
    assert not a.ready
    pool.tick(303.0)
    assert not a.ready
    pool.tick(304.0)
    assert a.ready
    assert a.limit == 1
    assert not a.outlier.flapping


def test_flips_that_are_far_apart_are_no_flapping() -> None:
    """Five minutes hold no more than four."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    for start in range(0, 2000, 200):
        flap(pool, a, times=2, now=float(start))
        assert a.ready


def test_not_all_that_flap_are_out() -> None:
    """Of two, one: when the network flaps, somebody must serve."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    for endpoint in (a, b):
        flap(pool, endpoint, times=6, now=0.0)
    assert [a.outlier.flapping, b.outlier.flapping] == [True, False]
    assert b.ready


def test_a_refused_connect_is_a_flip_too() -> None:
    """Whether a probe or a caller was refused."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    for number in range(3):
        pool.release(lease(pool, tried=[b]), Outcome.REFUSED, float(number))
        if number < 2:
            pool.observe(a, GOOD, number + 0.5)
            pool.observe(a, GOOD, number + 0.5)
    assert a.outlier.flapping


def test_two_refusals_in_one_moment_are_one_flip() -> None:
    """Two requests ran into the same closed door."""
    a, b = make_endpoint("a", slots=2), make_endpoint("b")
    pool = make_pool(a, b)
    for one in [lease(pool, tried=[b]) for _ in range(2)]:
        pool.release(one, Outcome.REFUSED, 0.0)
    assert not a.health.healthy
    assert not a.outlier.flapping
