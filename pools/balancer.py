"""Owns the order of preference among endpoints with a free slot.

Must not know queues or tiers.
"""

from collections.abc import Callable, Iterable

from pools.endpoint import Endpoint

Roll = Callable[[int], int]
"""`roll(n)` is a random integer from 0 to n - 1."""


def least_inflight(endpoints: Iterable[Endpoint], roll: Roll) -> Endpoint | None:
    """Return the endpoint with the fewest open leases among those with a free slot, ties at random."""
    best: Endpoint | None = None
    least = ties = 0
    for endpoint in endpoints:
        inflight = endpoint.inflight
        if (best is not None and inflight > least) or endpoint.free <= 0:
            continue
        if best is None or inflight < least:
            best, least, ties = endpoint, inflight, 1
            continue
        ties += 1
        # The k-th tie replaces the choice with a chance of 1 in k: all have the same in the end.
        if not roll(ties):
            best = endpoint
    return best
