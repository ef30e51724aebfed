"""A TLS server on loopback whose answers a test writes, its names, and the gateway's way out to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
import trustme

from sovren_edge.gateway.egress.client import Answer, Egress, open_egress
from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.policy import Target, read_target
from sovren_edge.gateway.egress.resolver import Resolver
from tests.name_server import Names, name_server

HOST = "api.example.com"
OTHER = "www.example.com"
LOOPBACK = ip_network("127.0.0.0/8")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT_S = 0.3


@dataclass
class Call:
    """One request as it stood on the wire: `connection` counts connections from 1."""

    line: str
    fields: list[tuple[str, str]]
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def values(self, name: str) -> list[str]:
        """Return the values of a field."""
        return [value for given, value in self.fields if given.lower() == name]

    async def body(self) -> bytes:
        """Read the body."""
        if self.values("content-length"):
            return await self.reader.readexactly(int(self.values("content-length")[0]))
        if not self.values("transfer-encoding"):
            return b""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def chunk(self) -> bytes:
        """Read one chunk of the body."""
        size = int((await self.reader.readline()).strip(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


Script = Callable[[Call], Awaitable[None]]


async def answer_ok(call: Call) -> None:
    """Answer at once."""
    call.writer.write(OK[:-2] if call.line.startswith("HEAD") else OK)


@dataclass
class Upstream:
    """A server that answers as `script` says; a connection whose script closes it is not read any further."""

    script: Script = answer_ok
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    tls_names: list[str] = field(default_factory=list)
    ended: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    greeting: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        number = self.connections
        writer.write(self.greeting)
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and not writer.is_closing():
                line, *rest = head[:-4].decode("latin-1").split("\r\n")
                fields = [(name, value) for name, _, value in (text.partition(": ") for text in rest)]
                self.calls.append(Call(line, fields, number, reader, writer))
                await self.script(self.calls[-1])
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            self.ended.put_nowait(number)

    def says(self, raw: bytes) -> None:
        """Answer with these bytes, and close."""

        async def script(call: Call) -> None:
            call.writer.write(raw)
            call.writer.close()

        self.script = script

    def note_name(self, _socket: object, name: str | None, _context: object) -> None:
        """Take the name that TLS asks for."""
        self.tls_names.append(name or "")


@dataclass
class Stage:
    """All that a test plays with: an upstream, its names, and the way to it."""

    upstream: Upstream
    names: Names
    egress: Egress

    async def fetch(self, url: str = f"https://{HOST}/", method: str = "GET") -> tuple[Answer, bytes]:
        """Send a request; return the answer and its whole body."""
        async with self.egress.send(target(url), method, []) as answer:
            return answer, await read(answer)

    async def failure(self, url: str = f"https://{HOST}/", method: str = "GET") -> EgressError:
        """Send a request that fails; return why. What the attempt says of having sent is the same."""
        attempt = Attempt()
        with pytest.raises(EgressError) as caught:
            async with self.egress.send(target(url), method, [], attempt=attempt) as answer:
                await read(answer)
        assert caught.value.sent == attempt.sent
        return caught.value


def target(url: str) -> Target:
    """Return where a URL leads."""
    read = read_target(url)
    assert isinstance(read, Target)
    return read


async def read(answer: Answer) -> bytes:
    """Return the whole body."""
    return b"".join([piece async for piece in answer.body()])


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield a body."""
    for part in parts:
        yield part


@asynccontextmanager
async def serving(upstream: Upstream, certificate: trustme.LeafCert, **options: object) -> AsyncIterator[Upstream]:
    """Serve with a certificate on a free port of loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.sni_callback = upstream.note_name
    for name, value in options.items():
        setattr(context, name, value)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", upstream.port, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


@asynccontextmanager
async def way_out(authority: trustme.CA, names: Names, port: int) -> AsyncIterator[Egress]:
    """Open an egress that trusts the authority and may call this machine."""
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with open_egress(Resolver(names.server, [LOOPBACK]), tls=trusted, port=port) as egress:
        yield egress


@asynccontextmanager
async def staged(authority: trustme.CA, certificate: trustme.LeafCert, **options: object) -> AsyncIterator[Stage]:
    """Open everything."""
    async with (
        name_server() as names,
        serving(Upstream(), certificate, **options) as upstream,
        way_out(authority, names, upstream.port) as egress,
    ):
        names.records = {(HOST, "A"): ["127.0.0.1"], (OTHER, "A"): ["127.0.0.1"]}
        yield Stage(upstream, names, egress)
