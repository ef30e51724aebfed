"""How many requests may be repeated."""

import pytest

from pools.retry import RetryBudget
from tests.pools.building import lease, make_endpoint, make_pool


def grants(budget: RetryBudget, now: float) -> int:
    """Take repeats until there are none; return how many there were."""
    count = 0
    while budget.take(now):
        count += 1
    return count


def test_three_repeats_are_always_allowed() -> None:
    """A quiet pool may repeat, too."""
    assert grants(RetryBudget(), 0.0) == 3


def test_a_fifth_of_the_requests_may_be_repeated() -> None:
    """Of a hundred, twenty."""
    budget = RetryBudget()
    budget.fade(0.0)
    budget.requests += 100
    assert grants(budget, 0.0) == 20


def test_repeats_that_had_to_be_count_too() -> None:
    """So fewer others may follow."""
    budget = RetryBudget()
    budget.spend(0.0)
    budget.spend(0.0)
    assert grants(budget, 0.0) == 1


def test_it_is_told_how_much_is_used() -> None:
    """Of the three, or of a fifth; and more than all of it where more had to be."""
    budget = RetryBudget()
    assert budget.used(0.0) == 0
    budget.spend(0.0)
    assert budget.used(0.0) == pytest.approx(1 / 3)
    budget.requests += 10
    grants(budget, 0.0)
    budget.spend(0.0)
    assert budget.used(0.0) == pytest.approx(4 / 3)
    budget.requests += 90
    assert budget.used(0.0) == pytest.approx(0.2)


def test_requests_and_repeats_are_forgotten() -> None:
    """After ten minutes nothing is left of either but the least of three."""
    budget = RetryBudget()
    budget.fade(0.0)
    budget.requests += 100
    grants(budget, 0.0)
    assert grants(budget, 10.0) == 0, "both have faded alike"
    assert grants(budget, 600.0) == 3
    assert budget.requests < 1


def test_time_never_runs_backwards() -> None:
    """An older time changes nothing."""
    budget = RetryBudget()
    budget.fade(5.0)
    budget.requests += 10
    budget.fade(4.0)
    assert budget.requests == 10


def test_a_pool_counts_every_request_it_is_asked_for() -> None:
    """Those that are refused, too."""
    a = make_endpoint()
    pool = make_pool(a)
    pool.tick(0.0)
    lease(pool)
    pool.enable(a, 0.0, enabled=False)
    pool.admit("caller", 0.0)
    assert pool.budget.requests == 2
    pool.admit("caller", 0.0, again=True)
    assert pool.budget.requests == 2, "nobody is counted twice"
    pool.tick(1000.0)
    assert pool.budget.requests < 1
