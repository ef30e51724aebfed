"""What takes too long: each has its own answer and its own counter, and only endpoints that were slow are blamed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request

from pools.settings import QueueSettings
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.timeouts import KINDS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
STALL = b"GET /stall HTTP/1.1\r\nHost: me\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 9\r\n\r\n"


@asynccontextmanager
async def slow_endpoint() -> AsyncIterator[Backend]:
    """Answer /stall by half, everything else never."""

    async def held(head: bytes, _body: bytes) -> bytes:
        if b"/stall" in head:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
        await asyncio.Event().wait()
        return OK

    async with backend(held) as one:
        yield one


@asynccontextmanager
async def edge_with(**settings: float) -> AsyncIterator[Front]:
    """Serve the slow endpoint with these time-outs."""
    async with (
        slow_endpoint() as one,
        front(make_pool("p", [one.port]), settings=RelaySettings(**settings)) as edge,  # type: ignore[arg-type]
    ):
        yield edge


def reason_of(answer: bytes) -> tuple[int, str]:
    """Return an answer's status and reason."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["reason"]


@pytest.mark.parametrize(
    ("settings", "sent", "kind", "told", "blamed"),
    [
        ({"head_timeout_s": 0.1}, b"GET / HT", "head", (408, "head_timeout"), 0),
        ({"body_timeout_s": 0.1}, POST + b"ab", "body", (408, "body_timeout"), 0),
        ({"idle_timeout_s": 0.1}, POST.replace(b"9", b"90000") + b"ab", "body", (408, "body_timeout"), 0),
        ({"first_byte_timeout_s": 0.1}, GET, "first_byte", (504, "upstream_timeout"), 1),
        ({"total_timeout_s": 0.1}, GET, "total", (504, "total_timeout"), 0),
        ({"total_timeout_s": 0.1}, POST + b"ab", "total", (504, "total_timeout"), 0),
    ],
)
async def test_before_an_answer(
    settings: dict[str, float], sent: bytes, kind: str, told: tuple[int, str], blamed: int
) -> None:
    """The caller is told what took too long."""
    async with edge_with(keepalive_timeout_s=0.3, **settings) as edge:
        assert reason_of(await edge.call(sent)) == told
        assert edge.door.stats.timeouts == {kind: 1}
        assert edge.pools[0].endpoints[0].outlier.errors == blamed


@pytest.mark.parametrize(
    ("settings", "kind", "blamed"),
    [({"idle_timeout_s": 0.1}, "idle", 1), ({"idle_timeout_s": 30.0, "total_timeout_s": 0.1}, "total", 0)],
)
async def test_in_an_answer(settings: dict[str, float], kind: str, blamed: int) -> None:
    """It ends as a broken one."""
    async with edge_with(**settings) as edge:
        answer = await edge.call(STALL)
        assert answer.endswith(b"\r\n\r\nhello")
        await eventually(lambda: edge.lines)
        assert (edge.lines[0].ended, edge.door.stats.timeouts) == (f"{kind}_timeout", {kind: 1})
        assert edge.pools[0].endpoints[0].outlier.errors == blamed


async def test_a_body_that_drips_has_an_end() -> None:
    """Though each of its bytes is in time."""
    async with edge_with(body_timeout_s=0.3, idle_timeout_s=0.2) as edge:
        reader, writer = await edge.connect()
        writer.write(POST.replace(b"9", b"9000"))
        dripping = asyncio.create_task(reader.read())
        while not dripping.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert reason_of(dripping.result()) == (408, "body_timeout")
        writer.close()


async def test_the_total_counts_the_wait_in_the_queue() -> None:
    """From the head to the answer's end."""
    settings = RelaySettings(total_timeout_s=0.2)
    pool_settings = QueueSettings(timeout_s=9)
    async with (
        slow_endpoint() as one,
        front(make_pool("p", [one.port], slots=1, queue=pool_settings), settings=settings) as edge,
    ):
        answers = await asyncio.gather(edge.call(GET), edge.call(GET))
        assert {reason_of(answer) for answer in answers} == {(504, "total_timeout")}


async def test_an_idle_connection_ends_without_a_word() -> None:
    """It is counted nowhere: nobody has asked for anything."""
    async with edge_with(head_timeout_s=0.1, keepalive_timeout_s=0.1) as edge:
        assert await edge.call(b"") == b""
        assert not edge.door.stats.timeouts


async def test_an_endpoint_that_accepts_nothing_is_counted() -> None:
    """A full backlog looks like a machine that is gone."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the library's signature
            one.connect_ex(("127.0.0.1", port))
        async with front(make_pool("p", [port]), settings=RelaySettings(connect_timeout_s=0.2)) as edge:
            assert reason_of(await edge.call(GET)) == (503, "no_endpoint_ready")
            assert edge.door.stats.timeouts == {"connect": 1}
        for one in waiting:
            one.close()


async def test_hundreds_of_slow_callers_cost_little_and_are_ended() -> None:
    """Heads, bodies and readers; whoever is polite is served meanwhile."""
    size = 4_000_000

    async def answer(head: bytes, _body: bytes) -> bytes:
        big = b"/big" in head
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size) if big else OK

    settings = RelaySettings(head_timeout_s=1.0, body_timeout_s=1.0, idle_timeout_s=1.0)
    async with backend(answer) as one, front(make_pool("p", [one.port], slots=100), settings=settings) as edge:
        slow: list[asyncio.StreamWriter] = []
        for number in range(240):
            _, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1000)
            kinds = (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000, POST.replace(b"9", b"60000") + b"x" * 9000)
            writer.write((GET.replace(b"/ ", b"/big "), *kinds)[0 if number < 20 else 1 + number % 2])
            slow.append(writer)
        assert (await edge.call(GET)).endswith(b"hello")
        held = [made.transport.get_write_buffer_size() for made in edge.relay.downstreams if made.transport]
        assert max(held) < 1_000_000
        async with asyncio.timeout(20):
            while sum(edge.door.stats.timeouts.values()) < 240:
                assert (await edge.call(GET)).endswith(b"hello")
        assert edge.door.stats.timeouts == {"head": 110, "body": 110, "reader": 20}
        for writer in slow:
            writer.transport.abort()


async def test_every_kind_has_a_name_of_its_own() -> None:
    """And the counters know no other."""
    assert len(set(KINDS)) == len(KINDS) == 8


async def test_a_request_that_is_in_time_is_counted_nowhere() -> None:
    """With all time-outs set."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)

    async with (
        backend(raw=serve) as one,
        front(make_pool("p", [one.port]), settings=RelaySettings(total_timeout_s=5)) as edge,
    ):
        assert (await edge.call(GET)).endswith(b"hello")
        assert not edge.door.stats.timeouts
