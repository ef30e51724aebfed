"""Owns the order of preference among endpoints with a free slot.

Must not know queues or tiers.
"""

from collections.abc import Callable, Sequence

from pools.endpoint import Endpoint

Roll = Callable[[int], int]
"""`roll(n)` is a random integer from 0 to n - 1."""


def least_inflight(endpoints: Sequence[Endpoint], roll: Roll) -> Endpoint | None:
    """Return the endpoint with the fewest open leases among those with a free slot, ties at random."""
    least = min([endpoint.inflight for endpoint in endpoints], default=0)
    best = [endpoint for endpoint in endpoints if endpoint.inflight == least and endpoint.free > 0]
    if not best:
        # The least loaded are full: they have fewer slots than others.
        free = [endpoint for endpoint in endpoints if endpoint.free > 0]
        return least_inflight(free, roll) if free else None
    return best[0] if len(best) == 1 else best[roll(len(best))]
