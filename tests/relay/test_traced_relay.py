"""Every request's trace on its way to endpoints, and the spans of it at a collector."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import structlog
from harness import Front, backend, eventually, front, make_pool, read_request
from structlog.testing import CapturingLogger
from test_hedge import TEXT, WHOLE, Slow, pool_of
from voices import LONG, request, slowly, speaking

from pools.pool import Pool
from sovren_edge.observe.settings import TracingSettings
from sovren_edge.observe.trace_context import read_traceparent
from sovren_edge.observe.tracing import open_tracer
from tests.collector import Collector, Got, collecting

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01".encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
TOLD = re.compile(rb"\r\n(traceparent|tracestate):[ \t]*([^\r]*)", re.IGNORECASE)


def get(*fields: bytes, path: bytes = b"/s?key=hunter2") -> bytes:
    """Return a request and the wish for no more."""
    lines = (b"GET %s HTTP/1.1" % path, b"Host: a", *fields, b"Connection: close")
    return b"\r\n".join((*lines, b"", b""))


def told(head: bytes) -> dict[str, str]:
    """Return what an endpoint was told of a trace; each field came once."""
    found = TOLD.findall(head)
    said = {name.decode().lower(): value.decode() for name, value in found}
    assert len(said) == len(found), head
    return said


async def asked_for(*fields: bytes) -> dict[str, str]:
    """Return what an endpoint was told where nothing is recorded."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        await edge.call(get(*fields))
        ((head, _),) = one.requests
        await eventually(lambda: edge.lines)
        said = told(head)
        assert edge.lines[0].trace_id == said["traceparent"].split("-")[1]
        return said


@pytest.mark.parametrize("flags", [b"00", b"01", b"03"])
@pytest.mark.parametrize("more", [(), (b"tracestate: a=1",), (b"Connection: traceparent",)])
async def test_a_trace_goes_on_as_it_came(flags: bytes, more: tuple[bytes, ...]) -> None:
    """Nobody can name it away."""
    value = b"00-%s-%s-%s" % (TRACE.encode(), PARENT.encode(), flags)
    said = await asked_for(b"TraceParent: " + value, *more)
    assert said.pop("traceparent").encode() == value
    assert said == ({"tracestate": "a=1"} if more == (b"tracestate: a=1",) else {})


async def test_a_later_version_goes_on_as_it_came() -> None:
    """With what it says beyond ours; several fields of state are one list."""
    value = f"cc-{TRACE}-{PARENT}-01-more"
    said = await asked_for(b"traceparent: " + value.encode(), b"tracestate: a=1", b"tracestate: b=2")
    assert said == {"traceparent": value, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"traceparent: nonsense",),
        (b"traceparent:",),
        (b"traceparent: " + GIVEN, b"traceparent: " + GIVEN),
        (b"traceparent: " + GIVEN.upper(),),
        (b"traceparent: \xff" + GIVEN,),
    ],
)
async def test_without_a_valid_one_a_trace_begins(fields: tuple[bytes, ...]) -> None:
    """Of which nobody has recorded anything; the state of none is dropped."""
    said = await asked_for(*fields, b"tracestate: a=1")
    context = read_traceparent(said.pop("traceparent"))
    assert context is not None
    assert context.trace_id != TRACE
    assert not context.sampled
    assert not said


@asynccontextmanager
async def traced(*pools: Pool, sample: float = 1.0) -> AsyncIterator[tuple[Front, Collector]]:
    """Serve pools, with a collector; leaving the block sends what is left."""
    with collecting() as collector:
        settings = TracingSettings(endpoint=collector.endpoint, sample=sample)
        log = structlog.wrap_logger(CapturingLogger(), processors=[])
        with open_tracer(settings, "balance", log) as tracer:
            async with front(*pools, tracer=tracer) as edge:
                yield edge, collector


def attempts(collector: Collector, server: Got) -> list[Got]:
    """Return the attempts of a request, which are right below it."""
    found = [span for span in collector.spans if span.kind == "client"]
    assert {span.trace_id for span in found} == {server.trace_id}
    assert {span.parent_id for span in found} == {server.span_id}
    # Batches read the clock anew.
    assert all(server.began_at - 0.01 <= span.began_at <= span.ended_at for span in found)
    return found


async def test_a_request_is_a_span_and_its_attempt_another() -> None:
    """The endpoint is told of the attempt; no span holds a query, a token or what was said."""
    async with backend(lambda _h, _b: OK) as one:
        secrets = (b"Authorization: Bearer hunter2", b"Cookie: hunter2", b"X-Api-Key: hunter2", b"X-Request-Id: id-7")
        async with traced(make_pool("p", [one.port])) as (edge, collector):
            await edge.call(get(b"traceparent: " + GIVEN, b"tracestate: a=1", *secrets))
        (server,) = collector.named("GET")
        (attempt,) = attempts(collector, server)
        assert (server.trace_id, server.parent_id, server.state) == (TRACE, PARENT, "a=1")
        assert told(one.requests[0][0]) == {"traceparent": f"00-{TRACE}-{attempt.span_id}-01", "tracestate": "a=1"}
        assert edge.lines[0].trace_id == TRACE
    said = dict(server.attributes)
    assert all(0 <= float(str(said.pop(name))) < 5 for name in ("sovren.queue_s", "sovren.ttfa_s"))
    assert said == {
        "sovren.listener": "door", "sovren.request_id": "id-7", "sovren.attempts": 1, "sovren.ended": "complete",
        "sovren.endpoint": f"127.0.0.1:{one.port}", "http.request.method": "GET", "http.response.status_code": 200,
        "url.path": "/s", "url.scheme": "http", "client.address": "127.0.0.1", "http.request.body.size": 0,
        "http.response.body.size": 2,
    }  # fmt: skip
    assert attempt.attributes == {
        "http.request.method": "GET", "server.address": "127.0.0.1", "server.port": one.port, "sovren.pool": "p",
        "sovren.endpoint": f"127.0.0.1:{one.port}", "sovren.attempt": 1, "sovren.hedge": False,
        "sovren.outcome": "succeeded", "http.response.status_code": 200,
    }  # fmt: skip
    assert not server.failed
    assert not attempt.failed
    assert b"hunter2" not in b"".join(collector.posts)


async def test_every_attempt_is_a_span() -> None:
    """Of one trace; each endpoint is told of its own."""

    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        broken.append((await read_request(reader))[0])

    broken: list[bytes] = []
    async with AsyncExitStack() as stack:
        gone = await stack.enter_async_context(backend(lambda _h, _b: OK))
        gone.server.close()
        bad, good = [await stack.enter_async_context(one) for one in (backend(raw=hang_up), backend(lambda _h, _b: OK))]
        async with traced(make_pool("p", [gone.port, bad.port, good.port], repeatable=True)) as (edge, collector):
            assert (await edge.call(get())).startswith(b"HTTP/1.1 200 ")
        (server,) = collector.named("GET")
        assert server.parent_id == ""
        found = attempts(collector, server)
        assert [span.attributes["sovren.outcome"] for span in found] == ["refused", "failed", "succeeded"]
        assert [span.attributes["sovren.attempt"] for span in found] == [1, 2, 3]
        assert found[0].failed
        assert found[0].attributes["error.type"] == "refused"
        assert server.attributes["sovren.attempts"] == 3
        heads = [*broken, good.requests[0][0]]
        assert [told(head)["traceparent"] for head in heads] == [
            f"00-{server.trace_id}-{span.span_id}-01" for span in found[1:]
        ]


async def test_all_attempts_without_spans_are_of_one_trace() -> None:
    """It is the one that the log names."""

    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        broken.append((await read_request(reader))[0])

    broken: list[bytes] = []
    async with backend(raw=hang_up) as bad, backend(lambda _h, _b: OK) as good:
        async with front(make_pool("p", [bad.port, good.port], repeatable=True)) as edge:
            await edge.call(get())
        assert told(broken[0]) == told(good.requests[0][0])


async def test_a_hedge_is_an_attempt_beside_the_first() -> None:
    """It says so, and both endpoints are told of the same trace."""
    one, two = Slow(), Slow()
    async with backend(raw=one.serve) as first, backend(raw=two.serve) as second:
        async with traced(pool_of(first, second)) as (edge, collector):
            call = asyncio.ensure_future(edge.call(request(TEXT)))
            await eventually(lambda: one.asked and two.asked)
            two.answers.put_nowait(WHOLE)
            await call
        (server,) = collector.named("POST")
        found = [
            (span.attributes["sovren.hedge"], span.attributes["sovren.outcome"]) for span in attempts(collector, server)
        ]
        assert found == [(False, "left"), (True, "succeeded")]
        assert server.attributes["sovren.attempts"] == 2


async def test_parts_of_a_text_are_attempts_of_it() -> None:
    """As many spans as parts, all below the one request."""
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(backend(speaking)) for _ in range(2)]
        pool = make_pool(
            "tts", [one.port for one in backends], slots=2, kind="speech", repeatable=True, interchangeable=True
        )
        async with traced(pool) as (edge, collector):
            await edge.call(request(LONG))
        (server,) = collector.named("POST")
        found = attempts(collector, server)
        heads = [head for one in backends for head, _ in one.requests]
        assert len(found) == len(heads) > 1
        assert {told(head)["traceparent"] for head in heads} == {
            f"00-{server.trace_id}-{span.span_id}-01" for span in found
        }
        assert server.attributes["sovren.attempts"] == len(found)
    assert LONG[:20].encode() not in b"".join(collector.posts)


async def test_a_refusal_is_a_failure_of_ours() -> None:
    """Without an attempt."""
    async with traced(make_pool("p", [1], ready=False)) as (edge, collector):
        assert (await edge.call(get())).startswith(b"HTTP/1.1 50")
    (server,) = collector.spans
    assert server.failed
    assert str(server.attributes["error.type"]).startswith("50")


async def test_an_endpoint_that_fails() -> None:
    """Both spans say so."""
    async with backend(lambda _h, _b: BUSY) as one, traced(make_pool("p", [one.port])) as (edge, collector):
        await edge.call(get())
        collector.wait_for(lambda: len(collector.spans) == 2)
    (server,) = collector.named("GET")
    (attempt,) = attempts(collector, server)
    assert (server.attributes["error.type"], attempt.attributes["error.type"]) == ("503", "failed")
    assert attempt.attributes["http.response.status_code"] == 503


async def test_a_caller_that_leaves_is_no_failure() -> None:
    """Its span ends with it, and that of its attempt."""
    async with (
        backend(slowly(asyncio.Event())) as one,
        traced(make_pool("p", [one.port])) as (edge, collector),
    ):
        _, writer = await edge.connect()
        writer.write(get())
        await eventually(lambda: one.requests)
        writer.close()
        await eventually(lambda: edge.lines)
    (server,) = collector.named("GET")
    (attempt,) = attempts(collector, server)
    assert server.attributes["sovren.ended"] == "caller left"
    assert attempt.attributes["sovren.outcome"] == "left"
    assert not server.failed
    assert not attempt.failed


async def test_an_answer_that_breaks_is_a_failure() -> None:
    """Although it began well."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()

    async with backend(raw=half) as one, traced(make_pool("p", [one.port])) as (edge, collector):
        await edge.call(get())
    (server,) = collector.named("GET")
    assert server.attributes["error.type"] == "broken"
    assert attempts(collector, server)[0].attributes["error.type"] == "failed"


@pytest.mark.parametrize(("fields", "recorded"), [((b"traceparent: " + GIVEN,), True), ((), False)])
async def test_who_asks_decides_what_is_recorded(fields: tuple[bytes, ...], *, recorded: bool) -> None:
    """And of other traces no more than the share that is set, here none."""
    async with backend(lambda _h, _b: OK) as one:
        async with traced(make_pool("p", [one.port]), sample=0.0) as (edge, collector):
            await edge.call(get(*fields))
        said = read_traceparent(told(one.requests[0][0])["traceparent"])
        assert said is not None
        assert said.sampled == recorded
        assert bool(collector.spans) == recorded


async def test_what_is_not_sampled_goes_on_as_it_came() -> None:
    """Also where spans are recorded."""
    value = f"00-{TRACE}-{PARENT}-00"
    async with backend(lambda _h, _b: OK) as one:
        async with traced(make_pool("p", [one.port])) as (edge, collector):
            await edge.call(get(b"traceparent: " + value.encode(), b"tracestate: a=1"))
        assert told(one.requests[0][0]) == {"traceparent": value, "tracestate": "a=1"}
        assert not collector.posts


async def test_the_edges_own_pages_are_not_traced() -> None:
    """Nor what is no request."""
    async with traced(make_pool("p", [1])) as (edge, collector):
        await edge.call(get(path=b"/health"))
        await edge.call(b"nonsense\r\n\r\n")
    assert not collector.posts


async def test_equal_requests_share_what_one_of_them_asked_for() -> None:
    """Whatever their traces; each has a span of its own."""
    gate = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        await gate.wait()
        return speaking(head, body)

    async with backend(answer) as one:
        async with traced(make_pool("tts", [one.port], kind="speech")) as (edge, collector):
            first = asyncio.ensure_future(edge.call(traced_request(b"11" * 16)))
            await eventually(lambda: one.requests)
            second = asyncio.ensure_future(edge.call(traced_request(b"22" * 16)))
            await eventually(lambda: edge.relay.stats_of(edge.pools[0]).coalesced == 1)
            gate.set()
            await asyncio.gather(first, second)
        assert len(one.requests) == 1
        assert sorted(span.trace_id for span in collector.named("POST")) == ["11" * 16, "22" * 16]
        (attempt,) = [span for span in collector.spans if span.kind == "client"]
        assert attempt.trace_id == "11" * 16


def traced_request(trace: bytes) -> bytes:
    """Return a request for speech that belongs to a trace."""
    head, _, body = request("Good morning.").partition(b"\r\n\r\n")
    return head + b"\r\ntraceparent: 00-%s-%s-01\r\ntracestate: a=%s\r\n\r\n" % (trace, PARENT.encode(), trace) + body
