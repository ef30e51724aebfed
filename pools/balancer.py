"""Owns the order of preference among endpoints with a free slot.

Must not know queues or tiers.
"""

from collections.abc import Callable, Sequence
from math import inf

from pools.endpoint import Endpoint

Roll = Callable[[int], int]
"""`roll(n)` is a random integer from 0 to n - 1."""


def least_inflight(endpoints: Sequence[Endpoint], roll: Roll) -> Endpoint | None:
    """Return the endpoint with the fewest open leases for its weight among those with a free slot, ties at random."""
    best: Endpoint | None = None
    equals: list[Endpoint] = []
    least = inf
    for endpoint in endpoints:
        inflight = endpoint.inflight
        # With the one that it would get: of two that are idle, the heavier is the better.
        load = (inflight + 1) / endpoint.weight
        if load <= least and inflight < endpoint.limit:
            if load < least:
                best, least = endpoint, load
                if equals:
                    equals = []
            else:
                equals.append(endpoint)
    chosen = roll(len(equals) + 1) if equals else 0
    return equals[chosen - 1] if chosen else best
