"""Owns counting how an attempt ended. Must not know requests or answers."""

from typing import TYPE_CHECKING

from pools.admission import SUCCEEDED, Lease, Outcome

if TYPE_CHECKING:
    from sovren_edge.observe.stats import EndpointStats, PoolStats


def count_end(  # noqa: PLR0917 - on the hot path, keywords cost
    pool: "PoolStats", endpoint: "EndpointStats", lease: Lease, outcome: Outcome, took_s: float, now: float
) -> None:
    """Count the end of an attempt; `took_s` is since its request came, `now` in seconds of the relay's clock."""
    endpoint.attempts[outcome] += 1
    if outcome is SUCCEEDED:
        endpoint.duration.observe(took_s)
        if lease.estimate_s:
            pool.estimate_error.observe(abs(now - lease.since - lease.estimate_s))
