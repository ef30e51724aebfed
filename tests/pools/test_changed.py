"""What a pool is told of itself while it runs, or before it begins: its settings, and what operators have set."""

import pytest

from pools.admission import Granted
from pools.endpoint import ByHand
from pools.pool import Pool
from pools.settings import PoolSettings
from tests.pools.building import GOOD, first_of, lease, make_endpoint, make_pool, wait


@pytest.mark.parametrize("kind", ["generic", "speech"])
def test_other_settings_hold_at_once(kind: str) -> None:
    """More slots are for those who wait; what was set by hand stays."""
    a, b = make_endpoint("a"), make_endpoint("b")
    made = PoolSettings.model_validate({"kind": kind, "endpoints": ("set:1",), "slots": 1})
    pool = Pool("pool", made, [a, b], first_of, float)
    for endpoint in (a, b):
        pool.observe(endpoint, GOOD, 0.0)
    pool.resize(b, 1, 0.0)
    pool.enable(a, 0.0, enabled=True)
    leases = [lease(pool), lease(pool)]
    waiter = wait(pool)
    (event,) = pool.reconfigure(made.model_copy(update={"slots": 2, "overdue_s": 9.0}), 1.0)
    assert isinstance(event, Granted)
    assert event.waiter is waiter
    assert (a.slots, b.slots) == (2, 1)
    assert {one.endpoint for one in leases} == {a, b}


def test_what_operators_have_set_holds_from_the_beginning() -> None:
    """Of those who are known by their addresses; and for who joins later."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = make_pool(a, b)
    pool.obey({"a.example:8100": ByHand(enabled=False), "c.example:8100": ByHand(slots=7)}, 0.0)
    assert (a.ready, b.ready) == (False, True)
    c = make_endpoint("c")
    pool.join(c)
    assert c.slots == 7
