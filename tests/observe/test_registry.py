"""Metrics as Prometheus reads them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.observe.families import EndpointState, PoolState, listener_families, pool_families
from sovren_edge.observe.registry import Metrics, Source, Told, decimal, families, render
from sovren_edge.observe.stats import Histogram, ListenerStats, PoolStats


@given(st.floats(min_value=1e-9, max_value=1e18) | st.integers(-(10**15), 10**15))
def test_values_are_plain_decimals(value: float) -> None:
    """Without an exponent, and right to nine digits behind the point."""
    text = decimal(value)
    assert set(text) <= set("-0123456789.")
    assert float(text) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (3.0, "3"), (1e7, "10000000")],
)
def test_special_values(value: float, text: str) -> None:
    """As Prometheus spells them."""
    assert decimal(value) == text


def test_one_family_of_many_sources() -> None:
    """Its head once, its series together, with the source's labels first; no `_created`."""
    sources = []
    for name in ("one", "two"):
        metrics = Metrics()
        metrics.counter("calls", 'Calls\nof "all".', ["kind"]).labels('a"b\\c').inc(2)
        metrics.gauge("level", "Level.").set(0.5)
        metrics.histogram("wait_seconds", "Wait.", buckets=[1, 2]).observe(1.5)
        sources.append(Source(metrics.registry, {"listener": name}))
    text = render(sources).decode()
    assert text.count("# TYPE calls_total counter\n") == 1
    assert '# HELP calls_total Calls\\nof "all".\n' in text
    assert 'calls_total{listener="one",kind="a\\"b\\\\c"} 2\ncalls_total{listener="two",kind="a\\"b\\\\c"} 2\n' in text
    assert 'wait_seconds_bucket{listener="one",le="2.0"} 1\n' in text
    assert 'level{listener="two"} 0.5\n' in text
    assert "_created" not in text


def test_series_that_another_process_tells_are_the_same() -> None:
    """Through JSON, which knows neither NaN nor infinity; who adds a label has the first, but not the last word."""
    metrics = Metrics()
    metrics.counter("calls", 'Calls\nof "all".', ["kind"]).labels('a"b\\c').inc(2)
    metrics.gauge("worst", "Worst.").set(float("inf"))
    metrics.gauge("least", "Least.").set(float("-inf"))
    metrics.gauge("unknown", "Unknown.").set(float("nan"))
    metrics.gauge("up", "Up.", ["worker"]).labels("balance").set(1)
    metrics.histogram("wait_seconds", "Wait.", buckets=[1, 2]).observe(1.5)
    sources = [Source(metrics.registry, {"listener": "one"})]
    told = Told(orjson.loads(orjson.dumps(families(sources))))
    assert render([Source(told)]) == render(sources)
    text = render([Source(told, {"worker": "gateway"})]).decode()
    assert 'worst{worker="gateway",listener="one"} +Inf\n' in text
    assert 'up{worker="balance",listener="one"} 1\n' in text


def test_plain_numbers_are_read_when_somebody_looks() -> None:
    """As they stand then; a name is made once, whichever way."""
    metrics, numbers = Metrics(), {("a",): 1}
    metrics.counted("calls", "Calls.", lambda: numbers, ["kind"])
    metrics.counted("faults", "Faults.", lambda: {(): len(numbers)})
    numbers |= {("a",): 2, ("b",): 5}
    text = render([Source(metrics.registry, {"listener": "one"})]).decode()
    assert text == (
        "# HELP calls_total Calls.\n# TYPE calls_total counter\n"
        'calls_total{listener="one",kind="a"} 2\ncalls_total{listener="one",kind="b"} 5\n'
        '# HELP faults_total Faults.\n# TYPE faults_total counter\nfaults_total{listener="one"} 2\n'
    )
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.counter("calls", "Calls.")


def test_histograms_count_by_upper_bound() -> None:
    """A bound belongs to its bucket; quantiles are bounds."""
    histogram = Histogram((1.0, 2.0))
    assert histogram.quantile(0.5) is None
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert (histogram.count, histogram.total) == (4, 12.0)
    assert (histogram.quantile(0.5), histogram.quantile(0.75), histogram.quantile(1)) == (1.0, 2.0, float("inf"))


def test_what_a_listener_and_its_pools_show() -> None:
    """The names that dashboards know, each with its value."""
    stats, pool = ListenerStats("tts-master", "tts-master", speech=True), PoolStats()
    stats.count("POST", 200, 0.2)
    stats.count_speech(200, 0.2, whole=True)
    stats.count_speech(503, 0.001, whole=True)
    stats.count_speech(499, 0.1, whole=False)
    stats.count_refusal(400)
    pool.endpoints["e"].attempts["succeeded"] += 1
    pool.refusals["queue_full"] += 3
    state = PoolState("p", 4, (EndpointState("e", 2, 1, healthy=True, ready=False, ejections=5),), pool)

    class Listener:
        def collect(self) -> object:
            return listener_families(stats, ready=True)

    class Pools:
        def collect(self) -> object:
            return pool_families([state])

    text = render([Source(Listener()), Source(Pools())]).decode()  # type: ignore[arg-type]
    for line in (
        'http_requests_total{listener="tts-master",method="POST",status="200"} 1',
        'http_requests_total{listener="tts-master",method="other",status="400"} 1',
        'http_request_duration_seconds_count{listener="tts-master"} 1',
        'tts_requests_total{listener="tts-master"} 3',
        'tts_requests_failed_total{listener="tts-master"} 1',
        'tts_synthesis_duration_seconds_bucket{listener="tts-master",le="0.25"} 1',
        'tts_synthesis_duration_seconds_count{listener="tts-master"} 1',
        'service_health_status{service="tts-master",listener="tts-master"} 1',
        'pool_queue_length{pool="p"} 4',
        'pool_refusals_total{pool="p",reason="queue_full"} 3',
        'endpoint_inflight{pool="p",endpoint="e"} 1',
        'endpoint_ready{pool="p",endpoint="e"} 0',
        'endpoint_ejections_total{pool="p",endpoint="e"} 5',
        'endpoint_attempts_total{pool="p",endpoint="e",outcome="succeeded"} 1',
    ):
        assert line + "\n" in text
