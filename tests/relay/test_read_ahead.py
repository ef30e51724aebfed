"""Endpoints of speech do not wait for those who listen."""

import asyncio

import pytest
from harness import backend, eventually, front, make_pool
from voices import request, response

from sovren_edge.relay.settings import RelaySettings

MB = 1024 * 1024
TEXT = "Good morning."


async def listen(edge_port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a text, and read nothing yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge_port, limit=1024)
    writer.write(request(TEXT))
    return reader, writer


async def test_a_slot_is_free_before_its_caller_has_heard_all() -> None:
    """An answer that fits is taken from its endpoint at once; what the caller gets is whole."""
    body = bytes(range(256)) * (7 * MB // 1024)
    async with backend(lambda _h, _b: response(body)) as one, front(make_pool("p", [one.port], kind="speech")) as made:
        reader, writer = await listen(made.port)
        await eventually(lambda: one.requests and not made.pools[0].inflight)
        assert made.relay.budget.taken
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.read() == body
        await eventually(lambda: not made.relay.budget.taken)
        writer.close()


@pytest.mark.parametrize(
    ("megabytes", "limit"), [(12, 256 * MB), (7, MB)], ids=["more than may be read ahead", "no memory left"]
)
async def test_memory_is_bounded(megabytes: int, limit: int) -> None:
    """What does not fit stays with its endpoint, and so does the slot, until the caller reads."""
    body = bytes(megabytes * MB)
    async with backend(lambda _h, _b: response(body)) as one:
        pool = make_pool("p", [one.port], kind="speech")
        async with front(pool, settings=RelaySettings(buffers_limit=limit)) as made:
            reader, writer = await listen(made.port)
            await eventually(lambda: any(upstream.held for upstream in made.relay.connections.all))
            assert pool.inflight == 1
            assert made.relay.budget.taken <= limit
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.read()) == len(body)
            await eventually(lambda: not pool.inflight and not made.relay.budget.taken)
            writer.close()


async def test_a_caller_that_leaves_gives_its_memory_back() -> None:
    """Whatever it has not read."""
    async with (
        backend(lambda _h, _b: response(bytes(6 * MB))) as one,
        front(make_pool("p", [one.port], kind="speech")) as made,
    ):
        _, writer = await listen(made.port)
        await eventually(lambda: made.relay.budget.taken)
        writer.transport.abort()
        await eventually(lambda: not made.relay.budget.taken and not made.pools[0].inflight)


async def test_a_body_is_kept_only_where_there_is_memory() -> None:
    """Without it, it is passed on as it comes: it is served all the same."""
    body = b"x" * 2000
    async with backend(lambda _h, body: response(body)) as one:
        for limit in (0, 256 * MB):
            pool = make_pool("p", [one.port])
            async with front(pool, settings=RelaySettings(buffers_limit=limit)) as made:
                reader, writer = await made.connect()
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + body[:700])
                await eventually(lambda: made.relay.downstreams)
                await eventually(
                    lambda made=made, pool=pool, limit=limit: made.relay.budget.taken if limit else pool.inflight
                )  # type: ignore[misc]
                writer.write(body[700:])
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2000) == body
                assert not made.relay.budget.taken
                writer.close()
