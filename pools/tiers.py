"""Owns the order of pools: the next tier serves when those before it cannot.

Must not know endpoints' states but through their pool.
"""

from collections.abc import Sequence

from pools.admission import Lease, Refusal, Waiter
from pools.demand import UNKNOWN, Demand
from pools.endpoint import Endpoint
from pools.pool import NOBODY, Pool

FAIL_BACK_S = 10.0


class Tiers:
    """Pools in order of preference; one pool alone is the common case."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        # What tells these tiers from others.
        self.key = ",".join(pool.name for pool in pools).encode()

    @property
    def ready(self) -> bool:
        """Whether any tier is ready."""
        return self.can_serve(NOBODY)

    def can_serve(self, tried: frozenset[Endpoint]) -> bool:
        """Whether any tier has a ready endpoint that is not among those tried."""
        return any(pool.can_serve(tried) for pool in self.pools)

    @property
    def probed(self) -> bool:
        """Whether every tier's first round of probes is over."""
        return all(pool.probed for pool in self.pools)

    def admit(
        self,
        owner: object,
        now: float,
        tried: frozenset[Endpoint] = NOBODY,
        demand: Demand = UNKNOWN,
        *,
        again: bool = False,
    ) -> Lease | Waiter | Refusal:
        """Admit to the first tier that can serve; in panic, to any endpoint that accepts connections.

        A tier that was away is the last resort until it has been back for ten seconds: what serves meanwhile goes on.
        `again` is as for Pool.admit.
        """
        refusal = Refusal.NO_ENDPOINT
        for pool in self._in_order(now):
            admission = pool.admit(owner, now, tried, demand, again=again)
            if type(admission) is Lease:
                return admission
            if not isinstance(admission, Refusal):
                return admission
            if admission is not Refusal.NO_ENDPOINT:
                refusal = admission
        if refusal is Refusal.NO_ENDPOINT and not self.ready:
            for pool in self.pools:
                lease = pool.admit_in_panic(tried, demand, now)
                if lease is not None:
                    return lease
        return refusal

    def _in_order(self, now: float) -> Sequence[Pool]:
        if len(self.pools) == 1:
            return self.pools
        return sorted(self.pools, key=lambda pool: now - pool.returned_at < FAIL_BACK_S)
