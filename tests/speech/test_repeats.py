"""How often parts of a text are spoken again, and by whom."""

from pools.admission import Outcome
from pools.endpoint import Endpoint
from pools.pool import FORGIVEN_S, NOBODY, Pool
from sovren_edge.speech.repeats import AGAIN, Repeats, may_scatter
from tests.pools.building import lease, make_endpoint, make_pool


def fail(pool: Pool, repeats: Repeats, endpoint: Endpoint, now: float = 0.0) -> None:
    """Let an endpoint fail a part."""
    others = [one for one in pool.endpoints if one is not endpoint]
    pool.release(lease(pool, now, tried=others), Outcome.FAILED, now)
    repeats.failed(frozenset({endpoint}))


def spend_all(pool: Pool, now: float = 0.0) -> None:
    """Leave nothing of the pool's budget."""
    while pool.budget.take(now):
        pass


def test_who_has_failed_a_text_is_not_asked_again_while_there_are_others() -> None:
    """For none of its parts; until it has spoken another one."""
    a, b, c = (make_endpoint(name) for name in "abc")
    pool = make_pool(a, b, c)
    repeats = Repeats(pool)
    fail(pool, repeats, a)
    assert repeats.allow(0, 0.0) == {a}
    fail(pool, repeats, b)
    assert repeats.allow(0, 0.0) == {a, b}
    repeats.spoke(a)
    assert repeats.allow(0, 0.0) == {b}
    repeats.spoke(b)
    repeats.spoke(b)
    assert repeats.allow(0, 0.0) == NOBODY


def test_the_fault_of_single_endpoints_costs_nothing() -> None:
    """While one is left that has failed nobody lately; but others may repeat the less."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    spend_all(pool)
    repeats = Repeats(pool)
    fail(pool, repeats, a)
    assert repeats.allow(0, 0.0) == {a}
    fail(pool, Repeats(pool), b)
    assert repeats.allow(0, 0.0) is None
    assert repeats.allow(0, FORGIVEN_S + 0.1) == {a}


def test_where_all_have_failed_the_budget_counts() -> None:
    """Three in a quiet pool, and a part goes to those that failed it at most twice."""
    a = make_endpoint("a")
    pool = make_pool(a)
    repeats = Repeats(pool)
    fail(pool, repeats, a)
    assert repeats.allow(AGAIN, 0.0) is None
    assert [repeats.allow(0, 0.0) for _ in range(4)] == [NOBODY, NOBODY, NOBODY, None]


def test_texts_are_divided_unless_the_pool_as_a_whole_is_bad() -> None:
    """One good endpoint is enough, and so is a budget of which little is used."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    spend_all(pool)
    fail(pool, Repeats(pool), a)
    assert may_scatter(pool, 0.0)
    fail(pool, Repeats(pool), b)
    assert not may_scatter(pool, 0.0)
    pool.budget.requests += 100
    assert may_scatter(pool, 0.0)


def test_what_is_heard_is_not_lost_for_want_of_budget() -> None:
    """In mid-speech it is spent in any case."""
    a = make_endpoint("a")
    pool = make_pool(a)
    spend_all(pool)
    repeats = Repeats(pool)
    fail(pool, repeats, a)
    repeats.heard = True
    assert [repeats.allow(again, 0.0) for again in range(AGAIN + 1)] == [NOBODY, NOBODY, None]
