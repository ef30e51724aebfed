"""Owns sending spans to a collector: a bounded queue, and the one thread that empties it. OpenTelemetry ends here.

Must not know what is traced. A collector that is slow or dead delays nobody: spans are dropped and counted.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from structlog.typing import FilteringBoundLogger

from sovren_edge.observe.tracing import Span

# A few megabytes; some seconds of a busy process.
QUEUE_SPANS = 8192
# Spans are sent when so many wait, or after so long.
BATCH, PERIOD_S = 512, 1.0
# To encode a batch takes tens of milliseconds. By default a loop that wakes up would wait for 5 of them.
SWITCH_S = 0.0005
TIMEOUT_S = 5.0
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
NO_STATUS, FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
NANO = 1_000_000_000


class Exporter:
    """Takes spans from the loop, and sends them from a thread of its own; see tracing.Recorder."""

    def __init__(self, endpoint: str, worker: str, log: FilteringBoundLogger) -> None:
        self._log = log
        self._sender = OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_S)
        self._resource = Resource.create({
            "service.name": "sovren-edge", "service.version": version("sovren-edge"),
            "service.instance.id": f"{socket.gethostname()}/{worker}/{os.getpid()}", "host.name": socket.gethostname(),
        })  # fmt: skip
        self._scope = InstrumentationScope("sovren_edge", version("sovren-edge"))
        self._spans: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = self._failing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Take a span that has ended."""
        if len(self._spans) >= QUEUE_SPANS:
            self.dropped += 1
            return
        self._spans.append(span)
        if len(self._spans) == BATCH:
            self._wake.set()

    def collect(self) -> Iterator[Metric]:
        """See registry.Collector."""
        dropped = CounterMetricFamily("edge_spans_dropped", "Spans that were lost: a collector that is slow or away.")
        dropped.add_metric((), self.dropped)
        yield dropped

    def close(self, timeout_s: float = 1.0) -> None:
        """Send what waits, but wait for the collector no longer than this."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        self._sender.shutdown()  # type: ignore[no-untyped-call]  # it has no annotation

    def _run(self) -> None:
        while not self._closing or self._spans:
            self._wake.wait(0 if self._closing else PERIOD_S)
            self._wake.clear()
            # Those that come meanwhile wait for the next time: many small batches cost more than the spans in them.
            for size in _batches(len(self._spans)):
                self._send([self._spans.popleft() for _ in range(size)])

    def _send(self, spans: list[Span]) -> None:
        # Now, and not once for all: the system's clock may have been set since.
        offset = time.time() - time.monotonic()
        sent = self._sender.export([self._translated(span, offset) for span in spans]) is SpanExportResult.SUCCESS
        if not sent:
            self.dropped += len(spans)
        if sent is self._failing:
            self._failing = not sent
            (self._log.info if sent else self._log.warning)("spans_sent_again" if sent else "spans_not_sent")

    def _translated(self, span: Span, offset: float) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        return ReadableSpan(
            span.name,
            _context(span.context.trace_id, span.context.span_id, state),
            _context(span.context.trace_id, span.parent_id, state, remote=span.remote) if span.parent_id else None,
            self._resource,
            {**span.attributes, "error.type": span.error} if span.error else span.attributes,
            kind=KINDS[span.kind],
            status=FAILED if span.error else NO_STATUS,
            start_time=int((span.began_at + offset) * NANO),
            end_time=int((span.ended_at + offset) * NANO),
            instrumentation_scope=self._scope,
        )


def _batches(spans: int) -> list[int]:
    """Divide so many spans into batches."""
    return [min(BATCH, spans - start) for start in range(0, spans, BATCH)]


def _context(trace_id: str, span_id: str, state: TraceState | None, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED), state)


@contextmanager
def open_exporter(endpoint: str, worker: str, log: FilteringBoundLogger) -> Iterator[Exporter]:
    """Send spans to a collector in the name of one process until the block ends."""
    # It would write to standard error, at each attempt; we tell once.
    theirs = logging.getLogger("opentelemetry")
    theirs.propagate = False
    theirs.addHandler(logging.NullHandler())
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    exporter = Exporter(endpoint, worker, log)
    try:
        yield exporter
    finally:
        exporter.close()
        sys.setswitchinterval(usual_s)
