"""The data path, over real sockets: what callers send is what endpoints get, and back."""

import asyncio
from ipaddress import ip_network

import orjson
import pytest
from harness import backend, eventually, front, make_pool, read_request

from pools.settings import QueueSettings
from sovren_edge.auth import Networks
from sovren_edge.relay.settings import RelaySettings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"


def post(body: bytes, *, close: bool = True) -> bytes:
    """Make a POST with a sized body."""
    connection = b"Connection: close\r\n" if close else b""
    return b"POST /speak HTTP/1.1\r\nHost: me\r\n%sContent-Length: %d\r\n\r\n%s" % (connection, len(body), body)


async def test_a_request_and_its_answer_pass() -> None:
    """The endpoint sees the request with the proxy's fields; the caller sees the answer with its own."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(
            b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nX-Own: 1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
            b"X-Sovren-Debug: 1\r\n\r\n"
        )
    head, body = one.requests[0]
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nX-Own: 1\r\n")
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in head
    assert b"X-Forwarded-Proto: http\r\n" in head
    assert b"Via: 1.1 sovren-edge\r\n" in head
    assert b"X-Request-Id: " in head
    assert b"X-Hop" not in head
    assert b"X-Sovren" not in head
    assert b"Connection" not in head
    assert body == b""
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Request-Id: " in answer
    assert answer.endswith(b"\r\nConnection: close\r\n\r\nhello")
    assert edge.lines[0].status == 200
    assert edge.lines[0].path == "/a"
    assert edge.lines[0].ended == "complete"


async def test_connections_are_kept_on_both_sides() -> None:
    """Requests one after the other use one connection of the caller's and one to the endpoint."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        for _ in range(5):
            writer.write(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")
            await reader.readuntil(b"hello")
        writer.close()
    assert one.connections == 1
    assert len(one.requests) == 5


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Also behind a chunked body, and with a page of our own between."""

    def echo(head: bytes, body: bytes) -> bytes:
        said = head.split(b" ")[1] + body
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)

    async with backend(echo) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(
            b"GET /1 HTTP/1.1\r\nHost: me\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: me\r\n\r\n"
            b"GET /4 HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
        )
    assert [answer.find(said) for said in (b"/1", b"/2abc", b'{"status":"ok","service":"door"}', b"/4")] == sorted(
        answer.find(said) for said in (b"/1", b"/2abc", b'{"status":"ok","service":"door"}', b"/4")
    )
    assert answer.count(b"200 OK") == 4


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
async def test_bodies_of_all_sizes_pass(size: int) -> None:
    """Kept or streamed, an endpoint gets every byte."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        assert (await edge.call(post(body))).endswith(b"hello")
    assert one.requests[0][1] == body


@pytest.mark.parametrize("count", [1, 40])
async def test_chunked_bodies_pass(count: int) -> None:
    """A small one arrives sized, a large one chunked."""
    piece = b"y" * 4000
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for _ in range(count))
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        request = b"POST / HTTP/1.1\r\nHost: me\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await edge.call(request + chunks + b"0\r\n\r\n")).endswith(b"hello")
    head, body = one.requests[0]
    assert body == piece * count
    assert (b"Content-Length: 4000" in head) == (count == 1)


async def test_a_chunked_answer_is_chunked_again() -> None:
    """To an HTTP/1.1 caller; one of HTTP/1.0 gets the bytes and the close."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    async with backend(lambda _h, _b: chunked) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
        old = await edge.call(b"GET / HTTP/1.0\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
    assert b"Transfer-Encoding" not in old
    assert old.endswith(b"\r\n\r\nabcde")
    assert one.connections == 1


async def test_an_answer_that_ends_with_its_connection() -> None:
    """It is whole when the endpoint closes in order."""

    async def until_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nsome bytes")
        await writer.drain()

    async with backend(raw=until_close) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
    assert answer.endswith(b"\r\n\r\na\r\nsome bytes\r\n0\r\n\r\n")
    assert edge.lines[0].ended == "complete"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(method: bytes, answer: bytes) -> None:
    """Their length, if any, is passed on and not waited for; the connection is used again."""
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        for _ in range(2):
            writer.write(method + b" / HTTP/1.1\r\nHost: me\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert (b"Content-Length: 500" in head) == (b"500" in answer)
        writer.close()
    assert one.connections == 1


async def test_interim_answers_pass() -> None:
    """103 goes to the caller, 100 is ours."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with backend(lambda _h, _b: hints + OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n")
    assert b"100 Continue" not in answer
    assert answer.endswith(b"hello")


@pytest.mark.parametrize("size", [10, 100_000])
async def test_expectations_are_met_by_us(size: int) -> None:
    """The caller is told to go on, and the endpoint sees no expectation."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: me\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"z" * size)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
    assert b"Expect" not in one.requests[0][0]


async def test_forwarded_fields_of_strangers_are_replaced() -> None:
    """And those of trusted addresses are added to."""
    request = GET.replace(b"\r\nConnection", b"\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nConnection")
    async with backend(lambda _h, _b: OK) as one:
        async with front(make_pool("p", [one.port])) as edge:
            await edge.call(request)
        async with front(make_pool("p", [one.port]), trusted=Networks([ip_network("10.0.0.0/8")])) as edge:
            await edge.call(request)
    believed, replaced = one.requests[0][0], one.requests[1][0]
    assert b"X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n" in believed
    assert b"X-Forwarded-Proto: https\r\n" in believed
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in replaced
    assert b"X-Forwarded-Proto: http\r\n" in replaced


@pytest.mark.parametrize("given", [b"abc-1._Z", b"bad id", b"x" * 129])
async def test_request_ids(given: bytes) -> None:
    """A good one is kept, any other is replaced; the answer has the one that the endpoint saw."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET.replace(b"\r\nConnection", b"\r\nX-Request-Id: " + given + b"\r\nConnection"))
    seen = one.requests[0][0].split(b"X-Request-Id: ")[1].split(b"\r\n")[0]
    assert (seen == given) == (given == b"abc-1._Z")
    assert b"X-Request-Id: " + seen in answer


async def test_requests_wait_for_a_slot_in_order() -> None:
    """Never more than the slots at once; who came first is served first."""
    running = most = 0
    order: list[bytes] = []

    async def slow(head: bytes, _body: bytes) -> bytes:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        order.append(head.split(b" ")[1])
        await asyncio.sleep(0.01)
        running -= 1
        return OK

    async with backend(slow) as one, front(make_pool("p", [one.port], slots=2)) as edge:
        tasks = []
        for number in range(10):
            tasks.append(asyncio.create_task(edge.call(GET.replace(b"/a", b"/%d" % number))))
            await eventually(lambda: edge.pools[0].inflight + edge.pools[0].waiting + len(edge.lines) == len(tasks))
        answers = await asyncio.gather(*tasks)
    assert most == 2
    assert order == [b"/%d?b=c" % number for number in range(10)]
    assert all(answer.endswith(b"hello") for answer in answers)


async def test_a_full_queue_and_a_long_wait_are_refused() -> None:
    """Both with 503, Retry-After and a JSON body."""
    release = asyncio.Event()

    async def held(_head: bytes, _body: bytes) -> bytes:
        await release.wait()
        return OK

    queue = QueueSettings(limit=1, timeout_s=0.1)
    async with backend(held) as one, front(make_pool("p", [one.port], slots=1, queue=queue)) as edge:
        first = asyncio.create_task(edge.call(GET))
        await eventually(lambda: edge.pools[0].inflight == 1)
        second = asyncio.create_task(edge.call(GET))
        await eventually(lambda: edge.pools[0].waiting == 1)
        full, waited = await edge.call(GET), await second
        release.set()
        assert (await first).endswith(b"hello")
    for answer, reason in ((full, "queue_full"), (waited, "queue_timeout")):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in head
        problem = orjson.loads(body)
        assert problem["reason"] == reason
        assert problem["statusCode"] == 503
        assert all(isinstance(problem[name], str) for name in ("error", "message", "detail"))


async def test_failed_connects_are_tried_on_each_other_endpoint() -> None:
    """They cost no budget, and mark the endpoint unready at once."""
    async with (
        backend(lambda _h, _b: OK) as dead,
        backend(lambda _h, _b: OK) as gone,
        backend(lambda _h, _b: OK) as one,
    ):
        for closed in (dead, gone):
            closed.server.close()
            await closed.server.wait_closed()
        pool = make_pool("p", [dead.port, gone.port, one.port])
        async with front(pool) as edge:
            assert (await edge.call(post(b"x"))).endswith(b"hello")
            assert [endpoint.ready for endpoint in pool.endpoints] == [False, False, True]
    assert edge.lines[0].attempts == 3


async def test_nobody_ready_is_told_at_once() -> None:
    """503 with Retry-After, while /health stays 200 and /ready says 503."""
    async with backend(lambda _h, _b: OK) as one:
        one.server.close()
        await one.server.wait_closed()
        async with front(make_pool("p", [one.port])) as edge:
            answer = await edge.call(GET)
            health = await edge.call(b"GET /health HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n")
            ready = await edge.call(b"GET /ready HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "no_endpoint_ready"
    assert health.endswith(b'\r\n\r\n{"status":"ok","service":"door"}')
    assert ready.startswith(b"HTTP/1.1 503 ")


async def test_a_later_tier_takes_over() -> None:
    """When no endpoint of the tier before it is ready."""
    async with backend(lambda _h, _b: OK) as one, backend(lambda _h, _b: OK) as two:
        one.server.close()
        await one.server.wait_closed()
        async with front(make_pool("first", [one.port]), make_pool("second", [two.port])) as edge:
            assert (await edge.call(post(b"x"))).endswith(b"hello")
    assert len(two.requests) == 1


@pytest.mark.parametrize(
    ("method", "repeatable", "repeated"),
    [(b"POST", True, True), (b"POST", False, False), (b"GET", False, True)],
)
async def test_a_request_without_an_answer_byte_is_repeated_elsewhere(
    method: bytes, *, repeatable: bool, repeated: bool
) -> None:
    """Where its pool or its method allows it; otherwise the caller is told."""

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with (
        backend(raw=dying) as bad,
        backend(lambda _h, _b: OK) as good,
        front(make_pool("p", [bad.port, good.port], repeatable=repeatable)) as edge,
    ):
        answer = await edge.call(GET.replace(b"GET", method))
    if repeated:
        assert answer.endswith(b"hello")
        assert edge.lines[0].attempts == 2
    else:
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "upstream_failed"


async def test_a_stale_connection_is_replaced() -> None:
    """An endpoint that closed an idle connection serves the next request on a fresh one."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port], repeatable=True)) as edge:
        for _ in range(3):
            assert (await edge.call(post(b"x"))).endswith(b"hello")
            one.writers[-1].transport.abort()
    assert all(line.status == 200 for line in edge.lines)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
    ],
)
async def test_a_broken_answer_ends_as_broken(start: bytes) -> None:
    """The caller can tell that bytes are missing."""

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(start)
        await writer.drain()

    async with backend(raw=breaking) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert (b"hello" in answer) == (b"nonsense" not in start)
    assert not answer.endswith(b"0\r\n\r\n")
    assert edge.lines[0].ended.startswith("upstream broke")


@pytest.mark.parametrize(
    "garbage", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\nA: b\n\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"]
)
async def test_an_endpoint_that_speaks_no_http(garbage: bytes) -> None:
    """502, and nothing of it reaches the caller."""
    async with backend(lambda _h, _b: garbage) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(post(b"x"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"nonsense" not in answer


async def test_callers_that_leave_are_gone_upstream() -> None:
    """In the queue, while waiting for an answer, and during it."""
    hold = asyncio.Event()

    async def streaming(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        if b"/during" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        await asyncio.wait(
            {asyncio.create_task(hold.wait()), asyncio.create_task(reader.read())}, return_when="FIRST_COMPLETED"
        )

    async with backend(raw=streaming) as one, front(make_pool("p", [one.port], slots=1)) as edge:
        pool = edge.pools[0]
        for path in (b"/before", b"/during"):
            reader, writer = await edge.connect()
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: me\r\n\r\n")
            await eventually(lambda: one.open == 1)
            if path == b"/during":
                await reader.readuntil(b"hello")
            _, waiting = await edge.connect()
            waiting.write(b"GET /queued HTTP/1.1\r\nHost: me\r\n\r\n")
            await eventually(lambda: pool.waiting == 1)
            waiting.close()
            await eventually(lambda: pool.waiting == 0)
            writer.close()
            await eventually(lambda: one.open == 0)
            await eventually(lambda: pool.inflight == 0)
        hold.set()
    assert [line.status for line in edge.lines] == [499, 499, 499, 200]
    assert {line.ended for line in edge.lines} == {"caller left"}


async def test_a_caller_that_leaves_in_the_middle_of_an_upload_is_noticed() -> None:
    """Also while nothing is read from it, because no slot is free."""
    hold = asyncio.Event()

    async def held(_head: bytes, _body: bytes) -> bytes:
        await hold.wait()
        return OK

    async with backend(held) as one, front(make_pool("p", [one.port], slots=1)) as edge:
        first = asyncio.create_task(edge.call(GET))
        await eventually(lambda: edge.pools[0].inflight == 1)
        _, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 200_000)
        await eventually(lambda: edge.pools[0].waiting == 1)
        writer.close()
        await eventually(lambda: edge.pools[0].waiting == 0)
        hold.set()
        await first


async def test_a_slow_reader_costs_bounded_memory() -> None:
    """The endpoint is read no faster than the caller reads; every byte arrives."""
    size, sent = 20_000_000, 0

    async def fast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"a" * 100_000)
            sent += 100_000
            await writer.drain()

    async with backend(raw=fast) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1000)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.1)
        buffered = max(d.transport.get_write_buffer_size() for d in edge.relay.downstreams if d.transport)
        assert buffered < 600_000
        assert sent < size
        assert len(await reader.read()) == size
        writer.close()


async def test_early_answers_end_an_upload() -> None:
    """An endpoint that answers before the body is sent is heard, and its connection is not used again."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async with backend(raw=early) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 100_000)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 Too Large")
    assert b"Connection: close" in answer
    assert answer.endswith(b"no")


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported_version"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unsupported_method"),
        (b"SPEAK / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown_method"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431, "head_too_large"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed_request",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "unsupported_coding"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed_body"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n", 417, "expectation_failed"),
        (b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1", 405, None),
    ],
)
async def test_faults_in_a_message_are_answered_in_json(sent: bytes, status: int, reason: str | None) -> None:
    """And the connection is closed, since what follows cannot be trusted."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        head, _, body = (await edge.call(sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    problem = orjson.loads(body)
    assert problem["statusCode"] == problem["status"] == status
    assert problem["reason"] == (reason or "method_not_allowed")
    assert not one.requests


async def test_time_outs() -> None:
    """Of the head, of the body, of the first byte, and of a stream that stands still: each has its own answer."""
    hold = asyncio.Event()

    async def held(head: bytes, _body: bytes) -> bytes:
        if b"/stall" in head:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
        await hold.wait()
        return OK

    settings = RelaySettings(head_timeout_s=0.1, idle_timeout_s=0.1, first_byte_timeout_s=0.1, keepalive_timeout_s=0.2)
    async with backend(held) as one, front(make_pool("p", [one.port]), settings=settings) as edge:
        head = await edge.call(b"GET / HT")
        body = await edge.call(b"POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 9\r\n\r\nab")
        first = await edge.call(b"GET / HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n")
        stalled = await edge.call(b"GET /stall HTTP/1.1\r\nHost: me\r\n\r\n")
        silent = await edge.call(b"")
        hold.set()
    reasons = [orjson.loads(answer.partition(b"\r\n\r\n")[2])["reason"] for answer in (head, body, first)]
    assert reasons == ["head_timeout", "body_timeout", "upstream_timeout"]
    assert stalled.endswith(b"hello")
    assert silent == b""


async def test_addresses_that_may_not_call() -> None:
    """403 in JSON, before anything is read."""
    strangers = Networks([ip_network("10.0.0.0/8")])
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port]), allow=strangers) as edge:
        answer = await edge.call(GET)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "address_not_allowed"
