"""How connections come in: TLS, PROXY protocol, limits, and room for descriptors."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import orjson
import pytest
from harness import eventually

from sovren_edge.acceptor import Entrance, accepting
from sovren_edge.auth.networks import Networks
from sovren_edge.limits import Descriptors, Limits, most_callers
from sovren_edge.observe.stats import ListenerStats
from sovren_edge.tls import Certificate, CertificateError, TlsSettings, client_context
from tests.core.certificates import Authority

LOOPBACK = Networks([ip_network("127.0.0.0/8")])
NOBODY = Networks([])
ANNOUNCED = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack("!HH", 1, 2)


class Echo(asyncio.Protocol):
    """Says whom it serves, then sends back what it gets."""

    def __init__(self, address: str, gone: Callable[[], None]) -> None:
        self.address, self.gone = address, gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.address.encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        """Send back."""
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Say so."""
        self.gone()


@dataclass
class House:
    """An entrance under test."""

    port: int
    stats: ListenerStats
    descriptors: Descriptors
    events: list[str] = field(default_factory=list)

    async def enter(
        self, first: bytes = b"", tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; `first` is sent before TLS begins."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(first)
        name = "localhost" if tls is not None else None
        return await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name)


@asynccontextmanager
async def house(
    *,
    most: int = 100,
    per_address: int = 100,
    exempt: Networks = NOBODY,
    callers: int = 100,
    tls: ssl.SSLContext | None = None,
    proxies: Networks | None = None,
    patience_s: float = 5.0,
) -> AsyncIterator[House]:
    """Accept on a free port; at the end everybody has been counted out."""
    stats, events = ListenerStats("door", "door"), list[str]()
    descriptors = Descriptors(callers, events.append)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)  # noqa: FBT003 - the library's signature
    limits = Limits(most, per_address, exempt, stats)
    opened = asyncio.Event()
    opened.set()
    entrance = Entrance(listening, Echo, stats, limits, descriptors, patience_s, opened, tls, proxies)
    async with accepting(entrance):
        yield House(listening.getsockname()[1], stats, descriptors, events)
        await eventually(lambda: stats.connections == descriptors.open == 0)


async def greeted(reader: asyncio.StreamReader) -> str:
    """Return whom the other side believes to serve."""
    return (await asyncio.wait_for(reader.readline(), 30)).decode().strip()


async def test_over_the_limit_callers_are_told_so_and_others_go_on() -> None:
    """503 in JSON; whoever is served keeps being served, and a place that is free is taken."""
    async with house(most=2) as door:
        guests = [await door.enter() for _ in range(2)]
        assert [await greeted(reader) for reader, _ in guests] == ["127.0.0.1"] * 2
        reader, writer = await door.enter(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in head
        assert b"Connection: close" in head
        assert orjson.loads(body)["reason"] == "too_many_connections"
        writer.close()
        guests[0][1].write(b"still here\n")
        assert await greeted(guests[0][0]) == "still here"
        guests[1][1].close()
        await eventually(lambda: door.stats.connections == 1)
        reader, late = await door.enter()
        assert await greeted(reader) == "127.0.0.1"
        assert door.stats.refused == {"listener_full": 1}
        for one in (guests[0][1], late):
            one.close()


@pytest.mark.parametrize(("exempt", "second"), [(NOBODY, "HTTP/1.1 503 Service Unavailable"), (LOOPBACK, "127.0.0.1")])
async def test_one_address_has_its_own_limit_unless_it_speaks_for_many(exempt: Networks, second: str) -> None:
    """Trusted addresses are proxies."""
    async with house(per_address=1, exempt=exempt) as door:
        (one, first), (two, other) = await door.enter(), await door.enter()
        assert [await greeted(one), await greeted(two)] == ["127.0.0.1", second]
        first.close()
        other.close()


async def test_without_descriptors_callers_wait_in_the_backlog() -> None:
    """And come in as others leave; nothing spins meanwhile."""
    async with house(callers=3) as door:
        guests = [await door.enter() for _ in range(3)]
        for reader, _ in guests:
            await greeted(reader)
        reader, writer = await door.enter()
        waiting = asyncio.create_task(greeted(reader))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert (door.descriptors.open, door.events) == (3, ["descriptors_exhausted"])
        guests.pop()[1].close()
        assert await waiting == "127.0.0.1"
        writer.close()
        for _, guest in guests:
            guest.close()
        await eventually(lambda: door.descriptors.open == 0)
        assert door.events[-1] == "descriptors_freed"


@pytest.mark.parametrize(("descriptors", "kept", "callers"), [(1024, 64, 416), (1024, 5000, 256), (2, 0, 1)])
def test_descriptors_are_shared_out(descriptors: int, kept: int, callers: int) -> None:
    """Two a caller, after what is reserved; but a quarter in any case."""
    assert most_callers(descriptors, kept) == callers


async def test_a_proxy_announces_its_callers() -> None:
    """Slowly, or with the first bytes behind the header."""
    async with house(proxies=LOOPBACK) as door:
        reader, writer = await door.enter(ANNOUNCED + b"hello\n")
        assert [await greeted(reader), await greeted(reader)] == ["192.0.2.7", "hello"]
        slow, other = await door.enter()
        for byte in ANNOUNCED:
            other.write(bytes([byte]))
            await other.drain()
        assert await greeted(slow) == "192.0.2.7"
        local, third = await door.enter(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00")
        assert await greeted(local) == "127.0.0.1"
        for one in (writer, other, third):
            one.close()


@pytest.mark.parametrize(
    ("proxies", "sent"),
    [
        (LOOPBACK, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (LOOPBACK, b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n"),
        (LOOPBACK, ANNOUNCED[:20]),
        (NOBODY, ANNOUNCED),
    ],
)
async def test_no_header_no_service(proxies: Networks, sent: bytes) -> None:
    """Also for a stranger with a good one, and for half a header."""
    async with house(proxies=proxies, patience_s=0.2) as door:
        reader, writer = await door.enter(sent)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        await eventually(lambda: door.stats.refused == {"proxy_header": 1})
        writer.close()


async def test_tls_and_a_proxy_before_it(tmp_path: Path) -> None:
    """The header comes in clear, then TLS; without a proxy just TLS."""
    authority = Authority.make(tmp_path)
    context = Certificate(authority.settings).context
    for proxies, first, address in ((None, b"", "127.0.0.1"), (LOOPBACK, ANNOUNCED, "192.0.2.7")):
        async with house(tls=context, proxies=proxies) as door:
            reader, writer = await door.enter(first, authority.client())
            assert await greeted(reader) == address
            tls = writer.get_extra_info("ssl_object")
            assert (tls.version(), tls.compression()) == ("TLSv1.3", None)
            writer.close()


async def test_who_speaks_no_tls_or_an_old_one_is_turned_away(tmp_path: Path) -> None:
    """And counted; TLS 1.2 is the oldest."""
    authority = Authority.make(tmp_path)
    context = Certificate(authority.settings).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    async with house(tls=context, patience_s=0.3) as door:
        old = authority.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        reader, writer = await door.enter(b"", old)
        assert await greeted(reader) == "127.0.0.1"
        writer.close()
        for sent in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", b"\x16\x03\x01"):
            reader, writer = await door.enter(sent)
            with suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 30)
            writer.close()
        await eventually(lambda: door.stats.refused == {"handshake": 3})


async def test_a_new_certificate_serves_new_connections_and_drops_none(tmp_path: Path) -> None:
    """It is loaded when both files have come to rest."""
    authority = Authority.make(tmp_path)
    certificate = Certificate(authority.settings)
    async with house(tls=certificate.context) as door:
        reader, writer = await door.enter(b"", authority.client())
        assert await greeted(reader) == "127.0.0.1"
        new = authority.issue(days=90)
        assert [certificate.refresh(), certificate.refresh(), certificate.refresh()] == [False, True, False]
        again, other = await door.enter(b"", authority.client())
        assert await greeted(again) == "127.0.0.1"
        assert other.get_extra_info("ssl_object").getpeercert(binary_form=True) == new
        writer.write(b"open\n")
        assert await greeted(reader) == "open"
        assert 89 < certificate.days_left(datetime.now(UTC)) < 91
        writer.close()
        other.close()


@pytest.mark.parametrize("fault", ["mismatch", "garbage", "missing", "expired"])
async def test_a_bad_new_certificate_leaves_the_old_one_serving(tmp_path: Path, fault: str) -> None:
    """With one error, until the files change again."""
    authority = Authority.make(tmp_path)
    certificate = Certificate(authority.settings)
    async with house(tls=certificate.context) as door:
        if fault == "mismatch":
            authority.issue(parts="certificate")
        elif fault == "expired":
            authority.issue(days=-1)
        elif fault == "garbage":
            (tmp_path / "cert.pem").write_text("no certificate", encoding="utf-8")
        else:
            (tmp_path / "key.pem").unlink()
        assert certificate.refresh() is False
        with pytest.raises(CertificateError):
            certificate.refresh()
        assert certificate.refresh() is False
        assert certificate.failures == 1
        reader, writer = await door.enter(b"", authority.client())
        assert await greeted(reader) == "127.0.0.1"
        writer.close()
        authority.issue()
        assert [certificate.refresh(), certificate.refresh()] == [False, True]


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_a_certificate_that_cannot_serve_is_a_fault(tmp_path: Path, missing: str) -> None:
    """In words."""
    authority = Authority.make(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CertificateError, match="cannot be read"):
        Certificate(authority.settings)
    with pytest.raises(CertificateError, match="cannot be read"):
        client_context(str(tmp_path / "no.pem"))
    with pytest.raises(CertificateError, match="cannot serve"):
        Certificate(TlsSettings(certificate=str(tmp_path / "ca.pem"), key=str(tmp_path / "ca.pem")))


def test_days_are_counted_from_now(tmp_path: Path) -> None:
    """Negative ones are those since it expired."""
    certificate = Certificate(Authority.make(tmp_path).settings)
    now = datetime.now(UTC)
    assert 29.9 < certificate.days_left(now) <= 30
    assert certificate.days_left(now + timedelta(days=31)) < 0
