"""Endpoints over TLS: always verified, and an operator learns why one is not trusted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness import front, make_pool, read_request

from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.probe import open_client, probe
from sovren_edge.tls import Certificate, client_context
from tests.core.certificates import Authority

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def secure_endpoint(authority: Authority) -> AsyncIterator[int]:
    """Answer over TLS on a free port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await read_request(reader)
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    context = Certificate(authority.settings).context
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def reach(endpoint: Endpoint, ca: Path, name: str) -> None:
    """Say how an endpoint is reached."""
    endpoint.tls, endpoint.server_name = client_context(str(ca)), name


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_good_certificate_serves(tmp_path: Path, name: str) -> None:
    """By its name or its address; one connection serves several requests."""
    authority = Authority.make(tmp_path)
    async with secure_endpoint(authority) as port, open_client() as client:
        pool = make_pool("p", [port])
        reach(pool.endpoints[0], tmp_path / "ca.pem", name)
        async with front(pool) as edge:
            assert (await edge.call(GET)).endswith(b"hello")
            assert (await edge.call(GET)).endswith(b"hello")
            assert len(edge.relay.connections.all) == 1
            assert await probe(pool.endpoints[0], client) is ProbeResult.GOOD


@pytest.mark.parametrize(("stranger", "name"), [(True, "localhost"), (False, "elsewhere")])
async def test_what_cannot_be_verified_never_serves(*, tmp_path: Path, stranger: bool, name: str) -> None:
    """An unknown authority, or another name: no request is sent, and the probe says why."""
    authority = Authority.make(tmp_path)
    (tmp_path / "other").mkdir()
    other = Authority.make(tmp_path / "other")
    async with secure_endpoint(authority) as port, open_client() as client:
        pool = make_pool("p", [port])
        endpoint = pool.endpoints[0]
        reach(endpoint, (other if stranger else authority).folder / "ca.pem", name)
        async with front(pool) as edge:
            assert (await edge.call(GET)).startswith(b"HTTP/1.1 503 ")
            assert not endpoint.health.healthy
            assert not endpoint.usable_in_panic
            assert await probe(endpoint, client) is ProbeResult.UNTRUSTED
