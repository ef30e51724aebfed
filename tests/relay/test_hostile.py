"""Callers and endpoints that are slow, greedy or rude: what each once broke, and must not again."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from harness import Front, backend, eventually, front, make_pool, read_request

from pools.settings import QueueSettings
from sovren_edge.relay.downstream import RESET_ON_CLOSE
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def deaf_endpoint() -> AsyncIterator[int]:
    """Accept connections and read nothing, into a small buffer."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def unsent(edge: Front) -> int:
    """Return the most bytes that wait for an endpoint."""
    made = [made for made in edge.relay.connections.all if made.transport is not None]
    return max((one.transport.get_write_buffer_size() for one in made if one.transport), default=0)


async def test_an_endpoint_that_does_not_read_holds_the_caller_back() -> None:
    """However much the caller wants to send, and whatever was kept before."""
    async with deaf_endpoint() as port, front(make_pool("p", [port])) as edge:
        _, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        most = before = -1
        for _ in range(400):
            writer.write(chunk)
        while before != (now := writer.transport.get_write_buffer_size()):
            before = now
            most = max(most, unsent(edge))
            await asyncio.sleep(0.1)
        assert 0 < most < 1_000_000
        assert before > 10_000_000
        # A reset, since an orderly close would wait behind the bytes that nobody takes.
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()
        await eventually(lambda: edge.at_rest)


async def test_callers_that_read_nothing_get_no_endpoint_ejected() -> None:
    """They are cut, and the endpoint is not to blame."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n" + b"x" * 30_000_000
    async with (
        backend(lambda _h, _b: answer) as one,
        front(make_pool("p", [one.port], slots=10), settings=RelaySettings(idle_timeout_s=0.2)) as edge,
    ):
        writers = []
        for _ in range(6):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1000)
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        await eventually(lambda: len(edge.lines) == 6)
        assert edge.pools[0].endpoints[0].outlier.errors == 0
        assert {line.ended for line in edge.lines} == {"reader_timeout"}
        for writer in writers:
            writer.transport.abort()


async def test_a_slow_reader_gets_everything() -> None:
    """Though the answer ended, and was logged, long before its last byte was read."""
    size = 3_000_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
    settings = RelaySettings(idle_timeout_s=0.3, head_timeout_s=0.3, keepalive_timeout_s=0.3)
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port]), settings=settings) as edge:
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        caller.setblocking(False)  # noqa: FBT003 - the library's signature
        loop = asyncio.get_running_loop()
        await loop.sock_connect(caller, ("127.0.0.1", edge.port))
        await loop.sock_sendall(caller, GET)
        got = 0
        while piece := await loop.sock_recv(caller, 30_000):
            got += len(piece)
            await asyncio.sleep(0.01)
        caller.close()
    assert got > size


async def test_draining_waits_for_the_last_bytes() -> None:
    """A request whose answer is still being sent is being served."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1000)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        (downstream,) = edge.relay.downstreams
        assert downstream.busy
        edge.relay.draining = True
        edge.relay.close_idle()
        assert len(await reader.read()) == 9_000_000
        await eventually(lambda: not downstream.busy)
        writer.close()


async def test_an_early_answer_s_connection_is_not_used_again_while_its_request_is_unsent() -> None:
    """The next caller gets a fresh one."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        if len(one.writers) == 1:
            await asyncio.Event().wait()

    body = b"x" * 60_000
    async with backend(raw=early) as one, front(make_pool("p", [one.port])) as edge:
        made = Upstream.connection_made

        def small(self: Upstream, transport: asyncio.BaseTransport) -> None:
            made(self, transport)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Upstream, "connection_made", small)
            one.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            post = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
                len(body),
                body,
            )
            assert (await edge.call(post)).endswith(b"hello")
            assert (await edge.call(GET)).endswith(b"hello")
        for writer in one.writers:
            writer.transport.abort()


async def test_no_idle_connections_at_all() -> None:
    """Zero is a limit like any other."""
    settings = RelaySettings(idle_connections_per_endpoint=0)
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port]), settings=settings) as edge:
        for _ in range(2):
            assert (await edge.call(GET)).endswith(b"hello")
    assert one.connections == 2


async def test_an_old_caller_sees_a_broken_answer_as_broken() -> None:
    """HTTP/1.0 knows no other sign than a reset."""

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()

    async with backend(raw=dying) as one, front(make_pool("p", [one.port])) as edge:
        with pytest.raises(ConnectionResetError):
            await edge.call(b"GET / HTTP/1.0\r\n\r\n")


async def test_who_waits_in_the_queue_with_a_large_body_is_not_told_to_hurry() -> None:
    """We stopped reading, not the caller sending."""
    release = asyncio.Event()

    async def held(head: bytes, _body: bytes) -> bytes:
        if head.startswith(b"GET"):
            await release.wait()
        return OK

    settings = RelaySettings(idle_timeout_s=0.15)
    async with (
        backend(held) as one,
        front(make_pool("p", [one.port], slots=1, queue=QueueSettings(timeout_s=9)), settings=settings) as edge,
    ):
        first = asyncio.create_task(edge.call(GET))
        await eventually(lambda: edge.pools[0].inflight == 1)
        reader, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 90000\r\n\r\n" + b"x" * 1000)
        await eventually(lambda: edge.pools[0].waiting == 1)
        due = edge.relay.now() + 0.4
        await eventually(lambda: edge.relay.now() > due)  # well past the idle time-out
        release.set()
        writer.write(b"x" * 89_000)
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        await first


@pytest.mark.parametrize(
    "rude",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 8000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n",
        b"GET /down HTTP/1.1\r\nHost: x\r\n\r\n" * 4000,
    ],
)
async def test_others_get_their_turn_between_a_caller_s_many_small_pieces(rude: bytes) -> None:
    """All of it is answered, and other callers are served meanwhile."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        if b"/down" in rude:
            edge.pools[0].enable(edge.pools[0].endpoints[0], edge.relay.now(), enabled=False)
        reader, writer = await edge.connect()
        writer.write(rude)
        polite = 0
        answers = 0
        wanted = rude.count(b" HTTP/1.1")
        while answers < wanted:
            answers += (await reader.read(1 << 20)).count(b"HTTP/1.1 ")
            if polite < 3:
                polite += (await edge.call(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).count(
                    b"200 OK"
                )
        assert polite > 0
        writer.close()


async def test_an_endpoint_that_dies_at_work_is_to_blame() -> None:
    """A kept connection that ends long after the request was sent was not stale."""
    first = True

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        while True:
            await read_request(reader)
            if not first:
                await asyncio.sleep(0.15)
                return
            first = False
            writer.write(OK)

    async with backend(raw=dying) as one, front(make_pool("p", [one.port], repeatable=True)) as edge:
        assert (await edge.call(GET)).endswith(b"hello")
        assert (await edge.call(GET)).startswith(b"HTTP/1.1 502 ")
        assert edge.pools[0].endpoints[0].outlier.errors == 2
        assert [line.attempts for line in edge.lines] == [1, 2]


async def test_an_endpoint_that_does_not_read_is_blamed_for_it() -> None:
    """504, not 408: the caller would have sent."""
    settings = RelaySettings(idle_timeout_s=0.2)
    async with deaf_endpoint() as port, front(make_pool("p", [port]), settings=settings) as edge:
        reader, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 504 ")
        assert edge.pools[0].endpoints[0].outlier.errors == 1
        writer.transport.abort()


@pytest.mark.parametrize("status", [b"204 No Content", b"103 Early Hints"])
async def test_no_length_where_none_may_stand(status: bytes) -> None:
    """In 1xx and 204, whatever the endpoint says."""
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n" + (OK if status.startswith(b"1") else b"")
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        first = (await edge.call(GET)).partition(b"\r\n\r\n")[0]
    assert status in first
    assert b"Content-Length" not in first


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n" + b"y" * 3_000_000,
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"y" * 3_000_000,
    ],
)
async def test_a_refusal_is_heard_by_who_is_still_sending(sent: bytes) -> None:
    """The rest is read and dropped: a reset would take the answer away."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        body = (await edge.call(sent)).partition(b"\r\n\r\n")[2]
    assert orjson.loads(body)["statusCode"] in {405, 431}


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\n\n"])
async def test_lines_without_a_carriage_return_are_refused_at_once(sent: bytes) -> None:
    """They can never become a head, so there is nothing to wait for; and the refusal is logged."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(sent)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert [(line.status, line.ended) for line in edge.lines] == [(400, "malformed_request")]


async def test_refused_pages_are_logged() -> None:
    """Those that are well are not: they are asked for every second."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        await edge.call(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await edge.call(b"DELETE /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert [(line.method, line.path, line.status) for line in edge.lines] == [("DELETE", "/health", 405)]


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000, b"0\r\n\r\n"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000, OK),
    ],
)
async def test_an_endpoint_s_many_small_pieces_are_read_in_turns(answer: bytes, last: bytes) -> None:
    """No more is read meanwhile, and none of them is lost, though the endpoint closes behind them."""
    stopped = False

    async def pelting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal stopped
        await read_request(reader)
        writer.write(answer + last)
        while not stopped:
            stopped = any(made.transport and not made.transport.is_reading() for made in edge.relay.connections.all)
            await asyncio.sleep(0)

    async with backend(raw=pelting) as one, front(make_pool("p", [one.port])) as edge:
        whole = await edge.call(GET)
    assert stopped
    assert whole.count(b"x") == answer.count(b"x")
    assert whole.count(b"103 Early Hints") == answer.count(b"103 Early Hints")
    assert whole.endswith(last[-5:])
    assert edge.lines[0].ended == "complete"
