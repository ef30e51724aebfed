"""WebSockets: a connection that leaves HTTP is passed on byte by byte, both ways, until it is closed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from harness import Backend, backend, eventually, front, make_pool, read_request

from sovren_edge.relay.settings import RelaySettings

OFFER = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def echo() -> AsyncIterator[Backend]:
    """Switch, and send back what comes until it ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one.requests.append(await read_request(reader))
        writer.write(SWITCH)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")

    async with backend(raw=serve) as one:
        yield one


async def test_a_real_client_talks_to_a_real_server() -> None:
    """Texts, binaries of a megabyte, pings, and the close with its code."""
    codes: list[int | None] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data)
        codes.append(socket.close_code)
        return socket

    app = web.Application()
    app.router.add_get("/ws", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    big = bytes(range(256)) * 4096
    async with (
        front(make_pool("p", [port])) as edge,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{edge.port}/ws", max_msg_size=0) as ws,
    ):
        for text in ("hello", "again"):
            await ws.send_str(text)
            assert await ws.receive_str() == text.upper()
        await ws.send_bytes(big)
        assert await ws.receive_bytes() == big
        assert (edge.pools[0].inflight, edge.door.stats.tunnels) == (1, 1)
        await ws.close(code=4001)
        await eventually(lambda: edge.lines)
        assert (edge.lines[0].status, edge.lines[0].ended, codes) == (101, "complete", [4001])
        assert edge.door.stats.tunnels == 0
        assert edge.lines[0].received > len(big)
    await runner.cleanup()


async def test_the_endpoint_sees_the_offer_and_the_caller_the_switch() -> None:
    """And frames that came with the offer are not lost."""
    async with echo() as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(OFFER + b"early")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
        assert await reader.readexactly(5) == b"early"
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in one.requests[0][0]
        writer.close()


async def test_a_callers_close_passes_and_the_endpoint_has_the_last_word() -> None:
    """What the endpoint says to a closed sending side still arrives."""
    async with echo() as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(OFFER)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"lastbye"
        writer.close()
        await eventually(lambda: edge.lines)
        assert (edge.lines[0].ended, edge.door.stats.callers_left) == ("complete", 0)


async def test_an_endpoints_close_passes() -> None:
    """With everything that it sent before."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SWITCH + b"x" * 300_000)

    async with backend(raw=serve) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(OFFER)
        assert answer.endswith(b"\r\n\r\n" + b"x" * 300_000)
        assert edge.pools[0].inflight == 0


async def test_a_caller_that_is_gone_ends_the_endpoints_connection() -> None:
    """At once."""
    async with echo() as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(OFFER)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await eventually(lambda: not one.open)
        await eventually(lambda: edge.lines)
        assert edge.lines[0].ended in {"caller left", "complete"}


async def test_a_reader_that_is_slow_holds_the_other_side_back() -> None:
    """In both directions memory is bounded."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SWITCH)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with backend(raw=flood) as one, front(make_pool("p", [one.port])) as edge:
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)  # noqa: FBT003 - the library's signature
        loop = asyncio.get_running_loop()
        await loop.sock_connect(caller, ("127.0.0.1", edge.port))
        await loop.sock_sendall(caller, OFFER)
        await eventually(lambda: any(one.write_paused for one in edge.relay.downstreams))
        (downstream,) = edge.relay.downstreams
        assert downstream.transport is not None
        assert downstream.transport.get_write_buffer_size() < 600_000
        caller.close()
        await eventually(lambda: not one.open)


async def test_silence_has_an_end() -> None:
    """In a tunnel that of its own setting; the shorter ones of answers do not count."""
    settings = RelaySettings(idle_timeout_s=0.05, tunnel_timeout_s=0.4)
    async with echo() as one, front(make_pool("p", [one.port]), settings=settings) as edge:
        reader, writer = await edge.connect()
        writer.write(OFFER)
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.15)
            writer.write(b"on")
            assert await reader.readexactly(2) == b"on"
        assert await reader.read() == b""
        await eventually(lambda: edge.lines)
        assert edge.lines[0].ended == "tunnel_timeout"
        assert edge.pools[0].endpoints[0].outlier.errors == 0
        writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_a_switch_that_nobody_asked_for_is_a_fault(answer: bytes) -> None:
    """An endpoint that switches by itself, or to something else, has failed."""
    offer = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" if answer == SWITCH else OFFER
    async with (
        backend(lambda _h, _b: answer) as one,
        front(make_pool("p", [one.port]), settings=RelaySettings(keepalive_timeout_s=0.2)) as edge,
    ):
        assert (await edge.call(offer)).startswith(b"HTTP/1.1 502 ")


async def test_a_refused_offer_is_an_answer_like_any_other() -> None:
    """And the connection serves the next request."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await edge.call(OFFER + get)).count(b"hello") == 2
        assert len(one.requests) == 2
