"""Owns the numbers of the gateway's requests. Must not know what is counted when.

They are plain ones: a request costs an addition or two, and Prometheus the rest.
"""

from collections import Counter
from collections.abc import Collection

from sovren_edge.observe.registry import Metrics


class Counts:
    """Counts of one gateway."""

    def __init__(self, metrics: Metrics) -> None:
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._inflight = 0
        metrics.counted(
            "gateway_requests",
            "Requests by service, decision and reason.",
            lambda: self._ended,
            ("service", "decision", "reason"),
        )
        inflight = metrics.gauge("gateway_requests_inflight", "Requests that have come and are not recorded as ended.")
        inflight.set_function(lambda: self._inflight)
        self.upstream_s = metrics.histogram(
            "gateway_upstream_seconds", "Time from having a connection to the head of upstream's answer.", ("service",)
        )

    @property
    def allowed(self) -> int:
        """How many requests have ended that were not refused."""
        return sum(count for (_, decision, _), count in self._ended.items() if decision != "refused")

    def refused(self, reasons: Collection[str] | None = None) -> int:
        """Return how many were refused, for any of some reasons or for any at all."""
        return sum(
            count
            for (_, decision, reason), count in self._ended.items()
            if decision == "refused" and (reasons is None or reason in reasons)
        )

    def begun(self) -> None:
        """Count a request that has come."""
        self._inflight += 1

    def turned_away(self, service: str, reason: str) -> None:
        """Count a request that was not looked at."""
        self._ended[service, "refused", reason] += 1

    def ended(self, service: str, decision: str, reason: str) -> None:
        """Count a request that has ended."""
        self._inflight -= 1
        self._ended[service, decision, reason] += 1
