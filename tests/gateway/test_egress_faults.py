"""Sending that fails: TLS, connecting, DNS, answers that are none, and what takes too long."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
import trustme

from sovren_edge.gateway.egress.client import open_egress
from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.egress.faults import EgressError, reason_of
from sovren_edge.gateway.egress.resolver import Address, Resolver
from tests.gateway.tls_upstream import (
    HOST,
    OTHER,
    SHORT_S,
    Call,
    Script,
    Stage,
    Upstream,
    answer_ok,
    staged,
    target,
    way_out,
)
from tests.name_server import Names, name_server

# What fails before anything is sent.


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_an_address_without_a_way_to_it_is_called_so(number: int) -> None:
    """Where a machine has a way to nowhere but itself, is not the same everywhere: the exception is made here."""
    assert reason_of(OSError(number, "no way")) == "destination_ip_unroutable"


@pytest.mark.parametrize("fault", ["unknown authority", "wrong name", "expired"])
async def test_certificates_that_are_not_trusted(authority: trustme.CA, fault: str) -> None:
    """Nothing is said to whom we do not know."""
    issuer = trustme.CA() if fault == "unknown authority" else authority
    until = datetime.now(UTC) + timedelta(days=-1 if fault == "expired" else 1)
    certificate = issuer.issue_cert(OTHER if fault == "wrong name" else HOST, not_after=until)
    async with staged(authority, certificate) as stage:
        failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("tls_certificate_error", 502, False)
    assert not stage.upstream.calls


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"HTTP/1.1 400 Bad\r\n\r\n", "tls_protocol_error"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "tls_alert_received"),
        (b"", "connection_terminated"),
    ],
)
async def test_tls_that_does_not_come_about(authority: trustme.CA, names: Names, raw: bytes, reason: str) -> None:
    """The server has none, cannot agree on a version, or just closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, way_out(authority, names, server.sockets[0].getsockname()[1]) as egress:
        failure = await Stage(Upstream(), names, egress).failure()
    assert (failure.reason, failure.status, failure.sent) == (reason, 502, False)


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    """Serve the name of a host of this machine."""
    async with name_server() as server:
        server.records = {(HOST, "A"): ["127.0.0.1"]}
        yield server


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_a_refused_connection(authority: trustme.CA, names: Names, addresses: list[str]) -> None:
    """On one address, or on all."""
    names.records = {(HOST, "A"): addresses}
    with socket.socket() as unused:
        unused.bind(("", 0))
        async with way_out(authority, names, unused.getsockname()[1]) as egress:
            failure = await Stage(Upstream(), names, egress).failure()
    assert (failure.reason, failure.status, failure.sent) == ("connection_refused", 502, False)


async def test_another_address_is_tried(stage: Stage) -> None:
    """One that answers is enough."""
    stage.names.records = {(HOST, "A"): ["127.0.0.9", "127.0.0.1"]}
    answer, _ = await stage.fetch()
    assert answer.attempt.address == "127.0.0.1"


@pytest.mark.parametrize("silent", ["in TLS", "unanswered"])
async def test_a_connection_that_takes_too_long(
    authority: trustme.CA, names: Names, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    """TLS included, on however many addresses."""
    monkeypatch.setattr("sovren_edge.gateway.egress.dial.CONNECT_S", SHORT_S)
    names.records = {(HOST, "A"): [f"127.0.0.{number}" for number in range(1, 21)]}
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen(0)
        address = ("127.0.0.1", listening.getsockname()[1])
        # A full backlog drops what comes next.
        waiting = [socket.socket() for _ in range(3 if silent == "unanswered" else 0)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(address)
        attempt, begun_s = Attempt(), asyncio.get_running_loop().time()
        async with way_out(authority, names, address[1]) as egress:
            with pytest.raises(EgressError) as caught:
                await egress.send(target(f"https://{HOST}/"), "GET", [], attempt=attempt).__aenter__()
        for one in waiting:
            one.close()
    assert (caught.value.reason, caught.value.status, caught.value.sent) == ("connection_timeout", 504, False)
    assert asyncio.get_running_loop().time() - begun_s < 10 * SHORT_S
    assert attempt.dns_ms is not None


async def test_too_many_at_once(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for one of the connections to a host is told so; the other hosts have theirs."""
    monkeypatch.setattr("sovren_edge.gateway.egress.dial.PER_HOST", 1)
    monkeypatch.setattr("sovren_edge.gateway.egress.dial.CONNECT_S", SHORT_S)
    async with staged(authority, authority.issue_cert(HOST, OTHER)) as stage:

        async def script(call: Call) -> None:
            call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")

        stage.upstream.script = script
        async with stage.egress.send(target(f"https://{HOST}/"), "GET", []):
            failure = await stage.failure()
            stage.upstream.script = answer_ok
            await stage.fetch(f"https://{OTHER}/")
    assert (failure.reason, failure.status, failure.sent) == ("connection_limit_reached", 504, False)


async def test_names_that_are_not_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, and the reason is the resolver's."""
    failure = await stage.failure("https://unknown.example.com/")
    assert (failure.reason, failure.status, failure.sent) == ("dns_error", 502, False)
    monkeypatch.setattr("sovren_edge.gateway.egress.resolver.TIMEOUT_S", SHORT_S)
    stage.names.dead = {"dead.example.com"}
    async with open_egress(Resolver(stage.names.server)) as egress:
        failure = await Stage(stage.upstream, stage.names, egress).failure("https://dead.example.com/")
    assert (failure.reason, failure.status, failure.sent) == ("dns_timeout", 504, False)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "169.254.169.254"], ["::ffff:127.0.0.1"]])
async def test_addresses_that_are_not_public(stage: Stage, addresses: list[str]) -> None:
    """One of them refuses all."""
    stage.names.records = {}
    for address in addresses:
        stage.names.records.setdefault((HOST, "AAAA" if ":" in address else "A"), []).append(address)
    failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("destination_ip_prohibited", 403, False)
    assert stage.upstream.connections == 0


class Turning(Resolver):
    """A resolver whose answer is no longer what it was when it comes to connecting."""

    addresses: tuple[Address, ...] = ()

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Return addresses that nobody has checked."""
        del host
        return self.addresses


@pytest.mark.parametrize("others", [[], ["127.0.0.1"], ["127.0.0.9", "127.0.0.1"]])
@pytest.mark.parametrize("first", [True, False])
async def test_the_socket_asks_again(stage: Stage, authority: trustme.CA, others: list[str], *, first: bool) -> None:
    """What got past the look-up does not get past the socket, also beside an address that may be called."""
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    resolver = Turning(stage.names.server, [ip_network("127.0.0.1/32"), ip_network("127.0.0.9/32")])
    refused: tuple[Address, ...] = (IPv4Address("127.0.0.2"),)
    allowed = tuple(map(ip_address, others))
    resolver.addresses = refused + allowed if first else allowed + refused
    async with open_egress(resolver, tls=trusted, port=stage.upstream.port) as egress:
        if not first and others:
            # It answered before the other one was thought of.
            await Stage(stage.upstream, stage.names, egress).fetch()
            return
        failure = await Stage(stage.upstream, stage.names, egress).failure()
    assert (failure.reason, failure.status, failure.sent) == ("destination_ip_prohibited", 403, False)
    assert not stage.upstream.calls


# What fails afterwards.


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "connection_terminated"),
        (b"HTTP/1.1 200", "connection_terminated"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", "connection_terminated"),
        (b"SSH-2.0-OpenSSH\r\n", "http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", "http_protocol_error"),
        (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "http_protocol_error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "http_response_incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "http_response_incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n", "http_protocol_error"),
    ],
)
async def test_answers_that_are_none(stage: Stage, raw: bytes, reason: str) -> None:
    """However far they got, the request was sent."""
    stage.upstream.says(raw)
    failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == (reason, 502, True)
    assert len(stage.upstream.calls) == 1


async def test_a_body_that_is_no_http(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out in the middle of it, where aiohttp keeps it to itself: the time in all ends it."""
    monkeypatch.setattr("sovren_edge.gateway.egress.client.TOTAL_S", SHORT_S)

    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await asyncio.sleep(SHORT_S / 3)
        call.writer.write(b"zz\r\n")
        await call.reader.read()

    stage.upstream.script = script
    failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("http_response_timeout", 504, True)


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10\r\n"])
async def test_a_connection_that_breaks_is_no_end_of_an_answer(stage: Stage, framing: bytes) -> None:
    """Also where closing it would have been."""

    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n%b\r\nhalf" % framing)
        await call.writer.drain()
        await asyncio.sleep(0.1)
        raw = call.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        call.writer.transport.abort()

    stage.upstream.script = script
    assert (await stage.failure()).reason == "http_response_incomplete"


async def silence(call: Call) -> None:
    """Say nothing."""
    await call.reader.read()


async def half(call: Call) -> None:
    """Say half of an answer."""
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await call.reader.read()


async def drops(call: Call) -> None:
    """Say something now and then, for ever."""
    call.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        call.writer.write(b"x")
        await call.writer.drain()
        await asyncio.sleep(0.02)


async def continues(call: Call) -> None:
    """Say for ever that the answer will come."""
    while True:
        call.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("script", [silence, half])
async def test_an_upstream_that_falls_silent(stage: Stage, script: Script) -> None:
    """Before its answer, or in it."""
    stage.upstream.script = script
    failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("connection_read_timeout", 504, True)
    assert await stage.upstream.ended.get() == 1
    assert len(stage.upstream.calls) == 1


@pytest.mark.parametrize("script", [silence, drops, continues])
async def test_an_answer_that_takes_too_long(stage: Stage, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """However busy upstream seems, over a connection that is there."""
    await stage.fetch()
    monkeypatch.setattr("sovren_edge.gateway.egress.client.TOTAL_S", SHORT_S)
    stage.upstream.script = script
    failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("http_response_timeout", 504, True)
    assert (len(stage.upstream.calls), stage.upstream.connections) == (2, 1)


async def test_an_upstream_that_does_not_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in all ends it; the caller's body is left alone then."""
    monkeypatch.setattr("sovren_edge.gateway.egress.client.TOTAL_S", SHORT_S)
    left = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            left.set()

    async def script(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(2 * SHORT_S)

    stage.upstream.script = script
    with pytest.raises(EgressError) as caught:
        await stage.egress.send(target(f"https://{HOST}/"), "POST", [], endless()).__aenter__()
    assert (caught.value.reason, caught.value.sent) == ("http_response_timeout", True)


@pytest.mark.parametrize("framing", [b"Content-Length: 2000000", b"Transfer-Encoding: chunked", b"X: y"])
async def test_an_answer_that_is_too_long(stage: Stage, monkeypatch: pytest.MonkeyPatch, framing: bytes) -> None:
    """What may pass passes; then the connection is cut."""
    monkeypatch.setattr("sovren_edge.gateway.egress.client.MOST_BYTES", 1_000_000)

    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        while True:
            # A broken connection takes what is written to it without a wait.
            await asyncio.sleep(0)
            call.writer.write(b"3e8\r\n" * (b"chunked" in framing) + b"x" * 1000 + b"\r\n" * (b"chunked" in framing))
            await call.writer.drain()

    stage.upstream.script = script
    taken = []

    async def fetch() -> None:
        async with stage.egress.send(target(f"https://{HOST}/"), "GET", []) as answer:
            async for piece in answer.body():
                taken.append(len(piece))  # noqa: PERF401 it ends with an exception

    with pytest.raises(EgressError) as caught:
        await fetch()
    assert (caught.value.reason, caught.value.status, caught.value.sent) == ("http_response_body_size", 502, True)
    assert 500_000 < sum(taken) <= 1_000_000
    assert await stage.upstream.ended.get() == 1


async def test_an_answer_of_just_the_most(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself may pass."""
    monkeypatch.setattr("sovren_edge.gateway.egress.client.MOST_BYTES", 2)
    assert (await stage.fetch())[1] == b"ok"


async def test_no_fault_tells_the_query(stage: Stage) -> None:
    """It may be a secret, and faults are logged."""
    stage.upstream.says(b"nonsense\r\n\r\n")
    failure = await stage.failure(f"https://{HOST}/?token=secret")
    assert "secret" not in f"{failure!r} {failure}"
    assert failure.__suppress_context__
