"""What becomes of a request when slots, endpoints, callers or the message itself fail."""

import asyncio
import socket
from ipaddress import ip_network

import orjson
import pytest
from harness import backend, eventually, front, make_pool, read_request
from test_relay import GET, OK, post

from pools.settings import QueueSettings
from sovren_edge.auth.networks import Networks


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


class Leaving:
    """An endpoint whose first connection ends with some last words when its second request comes."""

    def __init__(self, last_words: bytes) -> None:
        self.last_words = last_words
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See backend's `raw`."""
        self.connections += 1
        first = self.connections == 1
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        while not first:
            writer.write(OK)
            await read_request(reader)
        writer.write(self.last_words)
        await writer.drain()


async def test_a_stale_connection_is_replaced_while_others_wait() -> None:
    """As one that could not be made: it takes no slot from anybody, and its request is counted once."""
    engine = Leaving(b"")
    async with backend(raw=engine.serve) as one:
        pool = make_pool("p", [one.port], slots=1, repeatable=True)
        async with front(pool) as edge:
            answers = await asyncio.gather(*(edge.call(post(b"x")) for _ in range(3)))
            assert all(answer.endswith(b"hello") for answer in answers)
            stats = edge.relay.stats_of(pool)
            assert (engine.connections, stats.retries) == (2, 1)
            assert not stats.endpoints[pool.endpoints[0].name].attempts["failed"]
            assert round(pool.budget.requests) == 3


@pytest.mark.parametrize("last_words", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 O", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_a_kept_connection_that_says_something_is_not_stale(last_words: bytes) -> None:
    """The endpoint has seen the request: its fault, and no repeat where none is allowed."""
    engine = Leaving(last_words)
    async with backend(raw=engine.serve) as one:
        pool = make_pool("p", [one.port], slots=1, repeatable=True)
        async with front(pool) as edge:
            assert (await edge.call(post(b"x"))).endswith(b"hello")
            await edge.call(post(b"x"))
            assert edge.relay.stats_of(pool).endpoints[pool.endpoints[0].name].attempts["failed"]


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
        answer = await asyncio.wait_for(reader.read(), 30)
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


async def test_addresses_that_may_not_call() -> None:
    """403 in JSON, before anything is read."""
    strangers = Networks([ip_network("10.0.0.0/8")])
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port]), allow=strangers) as edge:
        answer = await edge.call(GET)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "address_not_allowed"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 60000\r\n\r\n%s", b"Transfer-Encoding: chunked\r\n\r\nea60\r\n%s\r\n0\r\n\r\n"]
)
async def test_a_slow_reader_holds_nobody_back_who_comes_after_it(framing: bytes) -> None:
    """The connection that has brought its whole answer reads on for others, though the caller has yet to take it."""

    async def answer(head: bytes, _body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + framing % (b"x" * 60_000) if b"/big" in head else OK

    async with backend(answer) as one, front(make_pool("p", [one.port])) as edge:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", edge.port))
        reader, slow = await asyncio.open_connection(sock=narrow, limit=10_000)
        slow.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        await eventually(lambda: any(made.write_paused for made in edge.relay.downstreams))
        (made,) = edge.relay.downstreams
        # The last bytes of an answer are those that are too many.
        while edge.pools[0].inflight or not made.write_paused:
            await asyncio.wait_for(reader.read(20_000), 30)
        assert (await edge.call(GET)).endswith(b"hello")
        slow.transport.abort()
