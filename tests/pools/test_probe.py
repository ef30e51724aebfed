"""Probes against real servers on free ports."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.probe import open_client, probe, watch_endpoint
from pools.settings import PoolSettings, ProbeSettings
from tests.pools.building import first_of

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def endpoint_at(
    port: int,
    *,
    timeout_s: float = 5.0,
    interval_s: float = 0.01,
    absent: bool = False,
    unhealthy: dict[str, str | int | bool | None] | None = None,
) -> Endpoint:
    """Make an endpoint on loopback."""
    settings = ProbeSettings(
        path="/health?deep=1", timeout_s=timeout_s, interval_s=interval_s, unhealthy=unhealthy or {}
    )
    return Endpoint(f"port-{port}", "127.0.0.1", port, 1, settings, absent)


@asynccontextmanager
async def serving(raw: bytes | None) -> AsyncIterator[int]:
    """Answer each connection with these bytes and close it, or never with None; yield the port."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if raw is None:
            await ended.wait()
        else:
            writer.write(raw)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        ended.set()


@pytest.fixture
def refusing_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def ask(endpoint: Endpoint) -> ProbeResult:
    """Probe once with a client of its own."""
    async with open_client() as client:
        return await probe(endpoint, client)


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ProbeResult.GOOD),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ProbeResult.GOOD),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ProbeResult.BAD),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", ProbeResult.BAD),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ProbeResult.BAD),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", ProbeResult.BAD),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", ProbeResult.BAD),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ProbeResult.BAD),
        (b"\x00\xff\x00\xff", ProbeResult.BAD),
        (b"", ProbeResult.BAD),
        (None, ProbeResult.TIMED_OUT),
    ],
    ids=["200", "204", "101", "302", "404", "500", "503", "ssh", "garbage", "closed", "silent"],
)
async def test_only_2xx_is_good(raw: bytes | None, result: ProbeResult) -> None:
    """Everything else that accepts a connection is bad; silence is told apart."""
    async with serving(raw) as port:
        assert await ask(endpoint_at(port, timeout_s=5.0 if raw is not None else 0.05)) is result


async def test_a_refused_connection_is_told_apart(refusing_port: int) -> None:
    """It says that nobody is there."""
    assert await ask(endpoint_at(refusing_port)) is ProbeResult.REFUSED


async def test_a_redirect_is_not_followed_and_a_proxy_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe goes to its endpoint, at its path, and nowhere else."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    application = web.Application()
    application.router.add_get("/{any:.*}", redirect)
    async with TestServer(application) as server:
        assert server.port is not None
        assert await ask(endpoint_at(server.port)) is ProbeResult.BAD
    assert asked == ["/health?deep=1"]


async def test_each_probe_has_a_fresh_connection() -> None:
    """A connection kept from a good time says nothing about whether a new caller gets in."""
    peers: list[object] = []

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response()

    application = web.Application()
    application.router.add_get("/health", note)
    async with TestServer(application) as server, open_client() as client:
        assert server.port is not None
        endpoint = endpoint_at(server.port)
        results = [await probe(endpoint, client) for _ in range(3)]
    assert results == [ProbeResult.GOOD] * 3
    assert len(set(peers)) == 3


async def test_endpoints_are_watched_until_cancelled(refusing_port: int) -> None:
    """Each is probed again and again, at its own pace."""
    seen: dict[str, list[ProbeResult]] = {}
    enough = asyncio.Event()

    def note(pool: Pool, endpoint: Endpoint, result: ProbeResult) -> None:
        pool.observe(endpoint, result, 0.0)
        seen.setdefault(endpoint.name, []).append(result)
        if len(seen) == 2 and all(len(results) >= 3 for results in seen.values()):
            enough.set()

    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port, open_client() as client:
        endpoints = [endpoint_at(port), endpoint_at(refusing_port)]
        pool = Pool("pool", PoolSettings(endpoints=("set:1",)), endpoints, first_of, float)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            watching = [group.create_task(watch_endpoint(pool, one, client, note)) for one in endpoints]
            await enough.wait()
            for each in watching:
                each.cancel()
    assert set(seen[f"port-{port}"]) == {ProbeResult.GOOD}
    assert set(seen[f"port-{refusing_port}"]) == {ProbeResult.REFUSED}
    assert pool.ready
    assert pool.probed


async def test_a_refused_lease_shortens_the_wait_for_the_next_probe() -> None:
    """A probe that was an hour away comes at once after a connect has failed."""
    probed = asyncio.Queue[ProbeResult]()

    def note(pool: Pool, endpoint: Endpoint, result: ProbeResult) -> None:
        pool.observe(endpoint, result, 0.0)
        probed.put_nowait(result)

    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port, open_client() as client:
        endpoint = endpoint_at(port, interval_s=3600.0)
        pool = Pool("pool", PoolSettings(endpoints=("set:1",)), [endpoint], first_of, float)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            watching = group.create_task(watch_endpoint(pool, endpoint, client, note))
            await probed.get()
            endpoint.health.refuse()
            await probed.get()
            await probed.get()
            watching.cancel()
        assert endpoint.ready


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"status":"unhealthy"}', ProbeResult.BAD),
        (b'{"status":"healthy","model":false}', ProbeResult.BAD),
        (b'{"status":"healthy","model":true}', ProbeResult.GOOD),
        (b"{}", ProbeResult.GOOD),
        (b'["unhealthy"]', ProbeResult.GOOD),
        (b"unhealthy", ProbeResult.GOOD),
        (b'{"status":"unhealthy"}' + b" " * 200_000, ProbeResult.BAD),
    ],
)
async def test_a_body_may_say_that_its_server_is_unwell(body: bytes, result: ProbeResult) -> None:
    """Though the status is 200."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(head + body) as port:
        assert await ask(endpoint_at(port, unhealthy={"status": "unhealthy", "model": False})) is result
