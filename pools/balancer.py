"""Owns the order of preference among endpoints with a free slot.

Must not know queues or tiers.
"""

from collections.abc import Callable, Sequence

from pools.endpoint import Endpoint

Roll = Callable[[int], int]
"""`roll(n)` is a random integer from 0 to n - 1."""


def least_inflight(endpoints: Sequence[Endpoint], roll: Roll) -> Endpoint | None:
    """Return the endpoint with the fewest open leases among those with a free slot, ties at random."""
    best: list[Endpoint] = []
    least = 0
    for endpoint in endpoints:
        inflight = endpoint.inflight
        if best and inflight > least:
            continue
        if inflight < endpoint.limit:
            if best and inflight == least:
                best.append(endpoint)
            else:
                best, least = [endpoint], inflight
    if len(best) > 1:
        return best[roll(len(best))]
    return best[0] if best else None
