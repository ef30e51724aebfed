"""Owns the gateway's series. Must not know what is counted when."""

from sovren_edge.observe.registry import Metrics


class Counts:
    """Counters and gauges of one gateway."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "gateway_requests", "Requests by service, decision and reason.", ("service", "decision", "reason")
        )
        self.upstream_s = metrics.histogram(
            "gateway_upstream_seconds", "Time from having a connection to the head of upstream's answer.", ("service",)
        )

    def ended(self, service: str, decision: str, reason: str) -> None:
        """Count a request that has ended."""
        self._requests.labels(service, decision, reason).inc()
