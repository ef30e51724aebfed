"""Owns the names and shapes of the edge's series: plain counters in, Prometheus families out.

Must not know pools, listeners or requests; it is handed their numbers.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sovren_edge.observe.registry import decimal
from sovren_edge.observe.stats import Histogram, ListenerStats, PoolStats

DAY_S = 86_400


class EndpointState(NamedTuple):
    """One endpoint's gauges."""

    name: str
    slots: int
    inflight: int
    healthy: bool
    ready: bool
    ejections: int


class PoolState(NamedTuple):
    """One pool's gauges and counters."""

    name: str
    waiting: int
    endpoints: tuple[EndpointState, ...]
    stats: PoolStats


def listener_families(stats: ListenerStats, *, ready: bool) -> Iterator[Metric]:
    """Yield one listener's families; the first names are those that dashboards already know."""
    at = (stats.listener,)
    requests = CounterMetricFamily(
        "http_requests", "Requests by method and status.", labels=("listener", "method", "status")
    )
    for (method, status), count in stats.requests.items():
        requests.add_metric((*at, method, str(status)), count)
    yield requests
    yield histogram(
        "http_request_duration_seconds",
        "From a request's head to its answer's end.",
        ("listener",),
        [(at, stats.duration)],
    )
    yield gauge(
        "service_health_status",
        "1 while the service can do its work.",
        ("service", "listener"),
        [((stats.service, *at), ready)],
    )
    yield gauge("edge_connections", "Open connections of callers.", ("listener",), [(at, stats.connections)])
    yield gauge("edge_tunnels", "Open WebSockets.", ("listener",), [(at, stats.tunnels)])
    left = CounterMetricFamily("edge_callers_left", "Requests whose caller left before the end.", labels=("listener",))
    left.add_metric(at, stats.callers_left)
    yield left
    yield counter("edge_connections_refused", "Connections that were not served.", ("listener", "reason"), [
        ((*at, reason), count) for reason, count in stats.refused.items()
    ])  # fmt: skip
    if stats.certificate is not None:
        days, failures = stats.certificate()
        yield gauge(
            "edge_certificate_left_seconds", "Until the certificate expires.", ("listener",), [(at, days * DAY_S)]
        )
        yield counter(
            "edge_certificate_reload_failures",
            "New certificates that could not serve.",
            ("listener",),
            [(at, failures)],
        )
    yield counter("edge_timeouts", "What took too long, by kind.", ("listener", "kind"), [
        ((*at, kind), count) for kind, count in stats.timeouts.items()
    ])  # fmt: skip
    if stats.speech:
        yield from _speech_families(stats)


def _speech_families(stats: ListenerStats) -> Iterator[Metric]:
    at = (stats.listener,)
    total = CounterMetricFamily("tts_requests", "Requests for speech.", labels=("listener",))
    total.add_metric(at, stats.speech_requests)
    failed = CounterMetricFamily("tts_requests_failed", "Requests for speech that failed.", labels=("listener",))
    failed.add_metric(at, stats.speech_failed)
    yield total
    yield failed
    yield histogram(
        "tts_synthesis_duration_seconds",
        "From a request for speech that succeeded to its last byte.",
        ("listener",),
        [(at, stats.synthesis)],
    )


def pool_families(pools: Iterable[PoolState]) -> Iterator[Metric]:
    """Yield the families of pools and their endpoints."""
    pools = tuple(pools)
    yield gauge(
        "pool_queue_length", "Requests that wait for a slot.", ("pool",), [((p.name,), p.waiting) for p in pools]
    )
    yield histogram(
        "pool_queue_wait_seconds", "How long requests waited for a slot.", ("pool",),
        [((p.name,), p.stats.queue_wait) for p in pools],
    )  # fmt: skip
    yield histogram(
        "pool_ttfa_seconds", "From a request for speech to the first byte of sound that its caller gets.", ("pool",),
        [((p.name,), p.stats.ttfa) for p in pools],
    )  # fmt: skip
    yield histogram(
        "pool_estimate_error_seconds", "How far the expected duration of a lease for speech was from the real one.",
        ("pool",), [((p.name,), p.stats.estimate_error) for p in pools],
    )  # fmt: skip
    yield counter("pool_refusals", "Requests refused, by reason.", ("pool", "reason"), [
        ((p.name, reason), count) for p in pools for reason, count in p.stats.refusals.items()
    ])  # fmt: skip
    yield counter("pool_retries", "Requests sent again.", ("pool",), [((p.name,), p.stats.retries) for p in pools])
    yield counter("pool_hedges", "Second attempts beside slow ones.", ("pool",), [
        ((p.name,), p.stats.hedges) for p in pools
    ])  # fmt: skip
    yield counter("pool_coalesced", "Requests that got the answer to an equal one that was in flight.", ("pool",), [
        ((p.name,), p.stats.coalesced) for p in pools
    ])  # fmt: skip
    yield from _kept_families(pools)
    yield from _scatter_families(pools)
    yield from _endpoint_gauges(pools)
    yield from _endpoint_counters(pools)


def _kept_families(pools: tuple[PoolState, ...]) -> Iterator[Metric]:
    at = ("pool",)
    yield gauge("pool_kept_answers", "Answers kept in memory.", at, [((p.name,), p.stats.kept_answers) for p in pools])
    yield gauge("pool_kept_bytes", "Memory of those answers.", at, [((p.name,), p.stats.kept_bytes) for p in pools])
    yield counter(
        "pool_kept_served", "Requests that got a kept answer.", at, [((p.name,), p.stats.kept_served) for p in pools]
    )


def _scatter_families(pools: tuple[PoolState, ...]) -> Iterator[Metric]:
    at = ("pool",)
    yield counter("pool_scattered_texts", "Texts spoken in parts.", at, [((p.name,), p.stats.scattered) for p in pools])
    yield counter("pool_parts", "Parts of those texts.", at, [((p.name,), p.stats.parts) for p in pools])
    yield counter(
        "pool_parts_repeated", "Parts spoken again.", at, [((p.name,), p.stats.parts_repeated) for p in pools]
    )
    yield counter(
        "pool_underruns", "Parts that came over 0.1 s after their listener had heard what was before them.", at,
        [((p.name,), p.stats.underruns) for p in pools],
    )  # fmt: skip


def _endpoint_gauges(pools: tuple[PoolState, ...]) -> Iterator[Metric]:
    labels = ("pool", "endpoint")
    states = [((p.name, e.name), e) for p in pools for e in p.endpoints]
    yield gauge(
        "endpoint_slots", "Requests that an endpoint may serve at once.", labels, [(at, e.slots) for at, e in states]
    )
    yield gauge("endpoint_inflight", "Open leases.", labels, [(at, e.inflight) for at, e in states])
    yield gauge("endpoint_healthy", "1 while probes succeed.", labels, [(at, e.healthy) for at, e in states])
    yield gauge("endpoint_ready", "1 while it may take leases.", labels, [(at, e.ready) for at, e in states])
    yield counter("endpoint_ejections", "Passive removals.", labels, [(at, e.ejections) for at, e in states])


def _endpoint_counters(pools: tuple[PoolState, ...]) -> Iterator[Metric]:
    labels = ("pool", "endpoint")
    stats = [((p.name, name), counted) for p in pools for name, counted in p.stats.endpoints.items()]
    yield counter("endpoint_attempts", "Attempts by outcome.", (*labels, "outcome"), [
        ((*at, outcome), count) for at, counted in stats for outcome, count in counted.attempts.items()
    ])  # fmt: skip
    yield histogram(
        "endpoint_ttfa_seconds", "From a request's head to the first byte of its answer's body.", labels,
        [(at, counted.ttfa) for at, counted in stats],
    )  # fmt: skip
    yield histogram(
        "endpoint_duration_seconds", "From a request's head to its answer's end.", labels,
        [(at, counted.duration) for at, counted in stats],
    )  # fmt: skip


def counter(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Make a counter of numbers by the values of its labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Make a gauge of numbers by the values of its labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def histogram(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    """Make a histogram of histograms by the values of its labels."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for at, histogram in values:
        bounds = [decimal(bound) for bound in histogram.bounds] + ["+Inf"]
        family.add_metric(at, list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total)
    return family
