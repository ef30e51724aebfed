"""A relay with real sockets on free ports, and endpoints whose every byte a test decides."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import MappingProxyType, SimpleNamespace
from typing import Literal

from pools.admission import Refusal
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.settings import PoolSettings, QueueSettings
from pools.tiers import Tiers
from sovren_edge.auth.networks import Networks
from sovren_edge.listener import OwnPages
from sovren_edge.observe.log import Access, Timestamps
from sovren_edge.observe.stats import ListenerStats
from sovren_edge.observe.tracing import Tracer
from sovren_edge.relay.downstream import Downstream
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.speech.serving import Speaking

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
EVERYBODY = Networks([ip_network("127.0.0.0/8")])
# How long is waited for what should be soon, on a machine that may be busy with other things.
PATIENCE_S = 30.0


async def eventually(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of the outside, such as another process's socket
            await asyncio.sleep(0.002)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request off an endpoint's connection: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            size = int((await reader.readline()).strip(), 16)
            data = await reader.readexactly(size + 2)
            if not size:
                return head, body
            body += data[:-2]
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        return head, await reader.readexactly(length)
    return head, b""


def unchunk(body: bytes) -> bytes | None:
    """Return a whole chunked body's bytes; None if its end is missing."""
    whole = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return whole
        if len(body) < size + 2:
            return None
        whole, body = whole + body[:size], body[size + 2 :]
    return None


def _ignore(_pool: Pool, _endpoint: Endpoint, _why: str) -> None:
    """Drop what is read off the pool here."""


@dataclass
class Backend:
    """One endpoint: what it was sent, and who is connected."""

    server: asyncio.Server
    port: int
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)


@asynccontextmanager
async def backend(
    answer: Callable[[bytes, bytes], bytes | Awaitable[bytes]] | None = None, raw: Serve | None = None
) -> AsyncIterator[Backend]:
    """Serve `answer(head, body)` to each request, or a connection's whole life by `raw`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        state.open += 1
        state.writers.append(writer)
        try:
            if raw is not None:
                await raw(reader, writer)
                return
            while True:
                request = await read_request(reader)
                state.requests.append(request)
                assert answer is not None
                made = answer(*request)
                writer.write(made if isinstance(made, bytes) else await made)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            state.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state = Backend(server, server.sockets[0].getsockname()[1])
    try:
        yield state
    finally:
        server.close()
        for writer in state.writers:
            if not writer.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()


@dataclass
class Front:
    """A relay's door under test."""

    relay: Relay
    door: Door
    pools: list[Pool]
    port: int
    lines: list[SimpleNamespace]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a caller's connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def call(self, request: bytes, *, timeout_s: float = PATIENCE_S) -> bytes:
        """Send bytes, and return all that comes until the connection closes."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            async with asyncio.timeout(timeout_s):
                return await reader.read()
        finally:
            writer.close()

    @property
    def at_rest(self) -> bool:
        """Whether every counter is back at zero."""
        return (
            all(pool.inflight == 0 and pool.waiting == 0 for pool in self.pools)
            and not any(downstream.busy for downstream in self.relay.downstreams)
            and not self.relay.budget.taken
        )


def make_pool(
    name: str,
    ports: list[int],
    *,
    slots: int = 4,
    repeatable: bool = False,
    queue: QueueSettings | None = None,
    ready: bool = True,
    kind: Literal["speech", "generic"] = "generic",
    interchangeable: bool = False,
    deterministic: bool = False,
    coalesce: bool = True,
    keep_bytes: int = 0,
    formats: tuple[str, ...] = (),
    names: Mapping[str, dict[str, str]] = MappingProxyType({}),
) -> Pool:
    """Make a pool of loopback endpoints that are ready at once."""
    settings = PoolSettings(
        endpoints=("set:1",),
        kind=kind,
        slots=slots,
        repeatable=repeatable,
        queue=queue or QueueSettings(),
        interchangeable=interchangeable,
        deterministic=deterministic,
        coalesce=coalesce,
        keep_bytes=keep_bytes,
        formats=formats,
        models=names.get("models", {}),
        voices=names.get("voices", {}),
    )
    endpoints = [Endpoint(f"127.0.0.1:{port}", "127.0.0.1", port, slots) for port in ports]
    pool = Pool(name, settings, endpoints, roll=lambda _n: 0, jitter=lambda: 0.5)
    for endpoint in endpoints:
        if ready:
            pool.observe(endpoint, ProbeResult.GOOD, 0.0)
    return pool


@asynccontextmanager
async def front(
    *pools: Pool,
    settings: RelaySettings | None = None,
    allow: Networks = EVERYBODY,
    trusted: Networks = EVERYBODY,
    explains: bool = False,
    name: Callable[[bytes], str] | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Front]:
    """Serve pools as the tiers of one door; `name` tells whom an Authorization field names."""
    lines: list[SimpleNamespace] = []

    def log(line: Access) -> None:
        lines.append(SimpleNamespace(**line))

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        relay = Relay(
            settings or RelaySettings(),
            loop.time,
            lambda _n: 0,
            Journal(Timestamps(time.time), log),
            group.create_task,
            _ignore,
            tracer,
        )
        for pool in pools:
            relay.stats_of(pool)
        tiers = Tiers(pools)
        speech = any(pool.settings.kind == "speech" for pool in pools)
        stats = ListenerStats("door", "door", speech=speech)
        pages = OwnPages(b'{"status":"ok","service":"door"}', {"pools": lambda: tiers.ready}, lambda: (), trusted)
        supplier = Speaking(name) if speech else Fetch
        door = Door(
            "door",
            tiers,
            pages,
            allow,
            trusted,
            stats,
            supplier=supplier,
            reads_ahead=speech,
            explains=explains,
        )
        server = await loop.create_server(lambda: Downstream(relay, door, "127.0.0.1", lambda: None), "127.0.0.1", 0)
        sweeper = group.create_task(relay.run())
        made = Front(relay, door, list(pools), server.sockets[0].getsockname()[1], lines)
        try:
            yield made
            await eventually(lambda: made.at_rest)
        finally:
            server.close()
            relay.close()
            sweeper.cancel()


def refusals(pool: Pool, relay: Relay) -> dict[Refusal, int]:
    """Return how many requests a pool refused, by reason."""
    return {Refusal(reason): count for reason, count in relay.stats_of(pool).refusals.items()}
