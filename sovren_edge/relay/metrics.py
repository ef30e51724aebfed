"""Owns reading the relay's state: for Prometheus, and for a status port as JSON.

Must not know how either is served.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pools.endpoint import Endpoint
from pools.pool import Pool
from sovren_edge.observe.families import EndpointState, PoolState, listener_families, pool_families
from sovren_edge.observe.registry import Metric
from sovren_edge.observe.stats import EndpointStats, Histogram, ListenerStats, PoolStats


@dataclass(frozen=True, slots=True)
class ListenerCollector:
    """One listener's series."""

    stats: ListenerStats
    ready: Callable[[], bool]

    def collect(self) -> Iterable[Metric]:
        """See observe.registry.Collector."""
        return listener_families(self.stats, ready=self.ready())


@dataclass(frozen=True, slots=True)
class PoolsCollector:
    """The series of pools."""

    pools: tuple[Pool, ...]
    stats_of: Callable[[Pool], PoolStats]

    def collect(self) -> Iterable[Metric]:
        """See observe.registry.Collector."""
        return pool_families(
            PoolState(pool.name, pool.waiting, tuple(map(_state, pool.endpoints)), self.stats_of(pool))
            for pool in self.pools
        )


def _state(endpoint: Endpoint) -> EndpointState:
    return EndpointState(
        endpoint.name,
        endpoint.slots,
        endpoint.inflight,
        endpoint.health.healthy,
        endpoint.ready,
        endpoint.outlier.ejections,
    )


def describe_pool(pool: Pool, stats: PoolStats) -> dict[str, object]:
    """Return a pool's state as JSON knows it; times in seconds."""
    described: dict[str, object] = {
        "name": pool.name,
        "kind": pool.settings.kind,
        "ready": pool.ready,
        "inflight": pool.inflight,
        "queue": {
            "length": pool.waiting,
            "limit": pool.settings.queue.limit,
            "wait_p95_s": stats.queue_wait.quantile(0.95),
        },
        "refusals": {str(reason): count for reason, count in stats.refusals.items()},
        "retries": stats.retries,
        "hedges": stats.hedges,
        "endpoints": [_describe_endpoint(endpoint, stats.endpoints[endpoint.name]) for endpoint in pool.endpoints],
    }
    return described if pool.settings.kind == "generic" else described | {"speech": _describe_speech(stats)}


def _describe_speech(stats: PoolStats) -> dict[str, object]:
    return {
        "ttfa_s": _describe_times(stats.ttfa),
        "estimate_error_p95_s": stats.estimate_error.quantile(0.95),
        "coalesced": stats.coalesced,
        "kept": {"answers": stats.kept_answers, "bytes": stats.kept_bytes, "served": stats.kept_served},
        "scattered": {
            "texts": stats.scattered,
            "parts": stats.parts,
            "parts_a_text": round(stats.parts / stats.scattered, 2) if stats.scattered else None,
            "parts_repeated": stats.parts_repeated,
            "underruns": stats.underruns,
        },
    }


def _describe_endpoint(endpoint: Endpoint, stats: EndpointStats) -> dict[str, object]:
    return {
        "name": endpoint.name,
        "address": endpoint.address.decode(),
        "slots": endpoint.slots,
        "limit": endpoint.limit,
        "weight": endpoint.weight,
        "inflight": endpoint.inflight,
        "absent": endpoint.absent,
        "enabled": endpoint.enabled,
        "leaving": not endpoint.named,
        "healthy": endpoint.health.healthy,
        "ready": endpoint.ready,
        "ejected": endpoint.outlier.ejected,
        "ejections": endpoint.outlier.ejections,
        "attempts": {str(outcome): count for outcome, count in stats.attempts.items()},
        "ttfa_s": _describe_times(stats.ttfa),
    }


def _describe_times(times: Histogram) -> dict[str, object]:
    return {"count": times.count, "sum_s": times.total, "p50": times.quantile(0.5), "p95": times.quantile(0.95)}
