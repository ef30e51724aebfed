"""Pools for tests: a few endpoints, time as a number, and no luck."""

from collections.abc import Callable, Sequence

from pools.admission import Event, Granted, Lease, Outcome, Waiter
from pools.balancer import Roll
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.settings import PoolSettings, ProbeSettings, QueueSettings

GOOD, BAD, TIMED_OUT, REFUSED, UNTRUSTED = ProbeResult


def first_of(_count: int) -> int:
    """Roll a die that always shows zero."""
    return 0


def make_endpoint(
    name: str = "a", *, slots: int = 1, probe: ProbeSettings | None = None, absent: bool = False
) -> Endpoint:
    """Make an endpoint of which nothing is known yet."""
    return Endpoint(name, f"{name}.example", 8100, slots, probe or ProbeSettings(), absent)


def make_pool(
    *endpoints: Endpoint,
    limit: int = 8,
    timeout_s: float = 30.0,
    roll: Roll = first_of,
    jitter: Callable[[], float] = float,
    ready: bool = True,
) -> Pool:
    """Make a pool whose endpoints are ready at time 0."""
    settings = PoolSettings(endpoints=("set:1",), queue=QueueSettings(limit=limit, timeout_s=timeout_s))
    pool = Pool("pool", settings, endpoints, roll, jitter)
    for endpoint in endpoints:
        if ready:
            pool.observe(endpoint, GOOD, 0.0)
    return pool


def lease(pool: Pool, now: float = 0.0, *, tried: Sequence[Endpoint] = ()) -> Lease:
    """Take a slot that must be free."""
    admission = pool.admit("caller", now, frozenset(tried))
    assert isinstance(admission, Lease)
    return admission


def wait(pool: Pool, now: float = 0.0, *, tried: Sequence[Endpoint] = ()) -> Waiter:
    """Take a place in the queue, where no slot must be free."""
    admission = pool.admit("caller", now, frozenset(tried))
    assert isinstance(admission, Waiter)
    return admission


def lease_granted(events: Sequence[Event]) -> Lease:
    """Return the lease of the one waiter whose turn has come."""
    (event,) = events
    assert isinstance(event, Granted)
    return event.lease


def fail(pool: Pool, endpoint: Endpoint, *, times: int, now: float = 0.0) -> None:
    """Have an endpoint answer with errors, one after the other."""
    others = [other for other in pool.endpoints if other is not endpoint]
    for _ in range(times):
        pool.release(lease(pool, now, tried=others), Outcome.FAILED, now)
