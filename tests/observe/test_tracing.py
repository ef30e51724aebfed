"""Spans on their way to a collector: what they say, which are recorded, and that they delay nobody."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import structlog
from structlog.testing import CapturingLogger

from sovren_edge.errors import EdgeError
from sovren_edge.observe import otlp
from sovren_edge.observe.registry import Source, render
from sovren_edge.observe.settings import TracingSettings
from sovren_edge.observe.trace_context import TraceContext, read_traceparent
from sovren_edge.observe.tracing import Span, Tracer, current_trace_id, open_tracer, serving, step, told
from tests.collector import collecting
from tests.ports import free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"


class Kept:
    """Keeps spans here."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        """See Recorder."""
        self.spans.append(span)

    def collect(self) -> tuple[()]:
        """See Recorder."""
        return ()


@contextmanager
def tracing(endpoint: str, sample: float = 1.0) -> Iterator[tuple[Tracer, CapturingLogger]]:
    """Open a tracer as the program does."""
    log = CapturingLogger()
    settings = TracingSettings(endpoint=endpoint, sample=sample)
    with open_tracer(settings, "balance", structlog.wrap_logger(log, processors=[])) as tracer:
        assert tracer is not None
        yield tracer, log


def events(log: CapturingLogger) -> list[object]:
    """Return what was logged."""
    return [call.kwargs["event"] for call in log.calls]


def dropped(tracer: Tracer) -> int:
    """Return the counter as Prometheus reads it."""
    lines = render([Source(tracer.recorder)]).decode().splitlines()
    return int(next(line for line in lines if line.startswith("edge_spans_dropped_total ")).split()[1])


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_a_collector_nothing_is_recorded() -> None:
    """And OpenTelemetry is not imported, nor by looking for it."""
    with open_tracer(TracingSettings(), "balance", structlog.wrap_logger(CapturingLogger())) as tracer:
        assert tracer is None
    code = (
        "import sys, sovren_edge.cli, sovren_edge.process.composition\n"
        "from sovren_edge.observe.tracing import exporter_installed\n"
        "assert exporter_installed()\n"
        "assert not any(name in sys.modules for name in ('opentelemetry.sdk.trace', 'opentelemetry.proto', 'requests'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_and_its_parts_are_one_trace() -> None:
    """With the right parents, kinds, times and words."""
    before = time.time()
    with (
        collecting() as collector,
        tracing(collector.endpoint) as (tracer, _),
        serving(tracer.at("door"), [GIVEN], ["a=1", "b=2"], "GET /x", {"http.route": "/x"}) as span,
    ):
        assert span is not None
        assert current_trace_id() == TRACE
        with step("ledger write", "internal", {"tries": 2}) as part:
            said = told(part)
        assert told(None)["traceparent"] == span.context.traceparent
    assert current_trace_id() == ""
    server, inner = collector.spans
    assert (server.name, server.kind, server.trace_id, server.parent_id) == ("GET /x", "server", TRACE, PARENT)
    assert server.attributes == {"sovren.listener": "door", "http.route": "/x"}
    assert (inner.name, inner.kind, inner.trace_id) == ("ledger write", "internal", TRACE)
    assert inner.parent_id == server.span_id
    assert inner.attributes == {"tries": 2}
    assert said == {"traceparent": f"00-{TRACE}-{inner.span_id}-01", "tracestate": "a=1,b=2"}
    assert server.state == "a=1,b=2"
    assert not server.failed
    assert before - 1 <= server.began_at <= inner.began_at <= inner.ended_at <= server.ended_at <= time.time() + 1
    assert server.resource["service.name"] == "sovren-edge"
    assert "/balance/" in str(server.resource["service.instance.id"])


def test_what_failed_says_why() -> None:
    """By the kind of its error, never by its words: they may hold a secret."""
    kept = Kept()

    def fail() -> None:
        with serving(Tracer(kept), [], [], "GET", {}), step("ledger write"):
            raise EdgeError(503, "away", "the secret is 42")

    with pytest.raises(EdgeError):
        fail()
    part, server = kept.spans
    assert (part.error, server.error) == ("EdgeError", "")
    assert "42" not in repr([part.attributes, part.name])


@pytest.mark.parametrize(
    ("parents", "states", "trace_id", "told_state"),
    [
        ([GIVEN], ["a=1"], TRACE, "a=1"),
        ([GIVEN, GIVEN], ["a=1"], None, ""),
        (["nonsense"], ["a=1"], None, ""),
        ([], ["a=1"], None, ""),
        ([], [], None, ""),
    ],
)
def test_without_spans_a_trace_goes_on(
    parents: list[str], states: list[str], trace_id: str | None, told_state: str
) -> None:
    """As it came, if it is valid; otherwise one begins that nobody records."""
    with serving(None, parents, states, "GET", {}) as span, step("ledger write") as part:
        assert span is part is None
        said = told(part)
        context = read_traceparent(said["traceparent"])
        assert context is not None
        assert context.trace_id == current_trace_id()
    assert said.get("tracestate", "") == told_state
    if trace_id is None:
        assert context.trace_id != TRACE
        assert not context.sampled
    else:
        assert said["traceparent"] == GIVEN


def test_outside_of_requests_there_is_no_trace() -> None:
    """Nothing is told, nothing recorded."""
    with step("ledger write") as span:
        assert span is None
        assert told(span) == {}


def test_who_began_a_trace_has_decided() -> None:
    """Whatever the share of our own."""
    yes, no = TraceContext(TRACE, PARENT, sampled=True), TraceContext(TRACE, PARENT, sampled=False)
    assert Tracer(Kept(), sample=0.0).begin(yes, "", "GET", 0.0) is not None
    assert Tracer(Kept(), sample=1.0).begin(no, "", "GET", 0.0) is None


@pytest.mark.parametrize(("sample", "least", "most"), [(0.0, 0, 0), (0.25, 350, 650), (1.0, 2000, 2000)])
def test_of_other_traces_a_share_is_recorded(sample: float, least: int, most: int) -> None:
    """By their ids, so that others who sample by them decide alike."""
    tracer = Tracer(Kept(), sample=sample)
    begun = [span for span in (tracer.begin(None, "", "GET", 0.0) for _ in range(2000)) if span is not None]
    assert least <= len(begun) <= most
    assert all(int(span.context.trace_id[16:], 16) < sample * 2**64 for span in begun)
    assert not any(span.parent_id for span in begun)


def record(tracer: Tracer, count: int) -> None:
    """Record so many spans."""
    for _ in range(count):
        span = tracer.begin(None, "", "GET", time.monotonic())
        assert span is not None
        span.end(time.monotonic())


def test_they_come_without_waiting_for_a_full_batch() -> None:
    """And every one of many comes, from the one thread."""
    with collecting() as collector, tracing(collector.endpoint) as (tracer, _):
        record(tracer, 1)
        collector.wait_for(lambda: len(collector.spans) == 1)
        record(tracer, 5 * otlp.BATCH)
        collector.wait_for(lambda: len(collector.spans) == 5 * otlp.BATCH + 1)
        assert [thread.name for thread in threading.enumerate()].count("spans") == 1
        assert dropped(tracer) == 0


def test_a_dead_collector_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans are dropped and counted; that is logged once, and once when it is back."""
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.2)
    with collecting(free_port()) as gone:
        pass
    with tracing(gone.endpoint) as (tracer, log):
        record(tracer, 10)
        until(lambda: dropped(tracer) == 10)
        record(tracer, 5)
        until(lambda: dropped(tracer) == 15)
        assert events(log) == ["spans_not_sent"]
        with collecting(gone.port) as back:
            record(tracer, 1)
            back.wait_for(lambda: len(back.spans) == 1)
            until(lambda: len(log.calls) == 2)
        assert events(log) == ["spans_not_sent", "spans_sent_again"]
        assert dropped(tracer) == 15


def test_a_refusal_is_a_loss_too() -> None:
    """What a collector will not take is not offered again."""
    with collecting() as collector:
        collector.status = 400
        with tracing(collector.endpoint) as (tracer, log):
            record(tracer, 3)
            until(lambda: dropped(tracer) == 3)
            until(lambda: events(log) == ["spans_not_sent"])


def test_a_stuck_collector_fills_a_bounded_queue() -> None:
    """And no more; the rest is dropped at once."""
    count = otlp.QUEUE_SPANS + 2 * otlp.BATCH
    with collecting() as collector, tracing(collector.endpoint) as (tracer, _):
        collector.gate.clear()
        record(tracer, count)
        lost = dropped(tracer)
        assert otlp.BATCH <= lost <= 2 * otlp.BATCH
        collector.gate.set()
        collector.wait_for(lambda: len(collector.spans) == count - lost, 60)


def test_the_end_does_not_wait_for_a_stuck_collector() -> None:
    """What it has not taken within a second is lost."""
    with collecting() as collector:
        collector.gate.clear()
        with tracing(collector.endpoint) as (tracer, _):
            record(tracer, 3)
            before = time.monotonic()
        assert time.monotonic() - before < otlp.TIMEOUT_S
