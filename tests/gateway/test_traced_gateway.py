"""The trace of a request through the gateway: what upstream is told, and what a collector gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trustme
from structlog.testing import CapturingLogger

from sovren_edge.observe.settings import TracingSettings
from sovren_edge.observe.tracing import open_tracer
from tests.collector import Collector, collecting
from tests.gateway.gateway_stage import Front, open_front, saying, sized
from tests.gateway.tls_upstream import HOST

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"
SECRET = "hunter2"


@asynccontextmanager
async def traced(authority: trustme.CA, url: str, folder: Path) -> AsyncIterator[tuple[Front, Collector]]:
    """Run a gateway that has a collector; leaving the block sends what is left."""
    with collecting() as collector:
        settings = TracingSettings(endpoint=collector.endpoint)
        log = structlog.wrap_logger(CapturingLogger(), processors=[])
        with open_tracer(settings, "gateway", log) as tracer:
            async with open_front(authority, url, folder, tracer=tracer) as front:
                yield front, collector


async def test_a_request_is_one_trace_with_its_steps(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """The grant, the row, the confirmation and the sending; upstream is told of the last, and no secret of any."""
    async with traced(authority, gateway_url, tmp_path) as (front, collector):
        told = await front.call(
            f"https://{HOST}/bot{SECRET}/x?key={SECRET}",
            body=SECRET.encode(),
            traceparent=GIVEN,
            tracestate="a=1",
            X_Upstream_Authorization=f"Bearer {SECRET}",
        )
        assert told.status == 200
        (row,) = await front.rows()
    (server,) = collector.named("POST /proxy/{subscriber_id}/{service}")
    (sent,) = collector.named("POST", "client")
    assert row["trace_id"] == TRACE
    assert (server.trace_id, server.parent_id) == (TRACE, PARENT)
    steps = [span for span in collector.spans if span != server]
    assert [span.name for span in steps] == ["limiter grant", "ledger write", "limiter confirm", "POST", "ledger write"]
    assert {(span.trace_id, span.parent_id) for span in steps} == {(TRACE, server.span_id)}
    assert not any(span.failed for span in collector.spans)
    assert sent.attributes == {
        "http.request.method": "POST", "server.address": HOST, "server.port": 443, "sovren.service": "example",
        "sovren.request_id": told.headers["X-Gateway-Request-Id"], "sovren.attempt": 1,
        "http.response.status_code": 200,
    }  # fmt: skip
    (call,) = front.upstream.calls
    assert call.values("traceparent") == [f"00-{TRACE}-{sent.span_id}-01"]
    assert call.values("tracestate") == []
    everything = b"".join(collector.posts)
    assert SECRET.encode() not in everything
    assert b"Bearer" not in everything


async def test_what_fails_says_why(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """What the caller's fault was is no failure."""
    async with traced(authority, gateway_url, tmp_path) as (front, collector):
        front.upstream.script = saying(sized("500 Oops", b""))
        assert (await front.call()).status == 500
        front.upstream.says(b"")
        assert (await front.call()).status == 502
        assert (await front.call("https://elsewhere.example/")).status == 403
        await front.rows()
    sent = collector.named("POST", "client")
    assert [span.attributes["error.type"] for span in sent] == ["500", "connection_terminated"]
    servers = collector.named("POST /proxy/{subscriber_id}/{service}")
    assert [span.attributes.get("error.type") for span in servers] == ["500", "502", None]


async def test_without_spans_the_callers_trace_goes_on(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """As it came, unless it names another for upstream; one that begins here is nobody's business."""
    async with open_front(authority, gateway_url, tmp_path) as front:
        await front.call(traceparent=GIVEN)
        await front.call(traceparent=GIVEN, X_Upstream_Traceparent="theirs")
        await front.call()
        await front.call(traceparent="nonsense")
        rows = await front.rows()
    assert [call.values("traceparent") for call in front.upstream.calls] == [[GIVEN], ["theirs"], [], []]
    traces = [row["trace_id"] for row in rows]
    assert traces[:2] == [TRACE, TRACE]
    assert len(set(traces)) == 3
    assert all(len(trace) == 32 for trace in traces)
