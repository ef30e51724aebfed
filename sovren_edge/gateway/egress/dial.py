"""Owns making the connection for one attempt: to public addresses alone, in the time for it, and noted when it stands.

aiohttp connects; its hooks find here whose attempt they serve. Must not know requests or answers.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address

from aiohttp import (
    AddrInfoType,
    ClientConnectorError,
    ClientError,
    ClientRequest,
    ClientTimeout,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from sovren_edge.gateway.egress.faults import TIMEOUTS, EgressError, reason_of
from sovren_edge.gateway.egress.proxy_status import ProxyError
from sovren_edge.gateway.egress.resolver import ResolveError, Resolver

# DNS has a limit of its own. Connecting includes TLS; waiting for one of the connections to a host has as long.
CONNECT_S = 5.0
# In use at once, to one host and in all; and for how long an unused one is kept.
PER_HOST, CONNECTIONS, KEPT_S = 100, 1000, 30.0


@dataclass(slots=True)
class Attempt:
    """What is known of one attempt, while it lasts and however it ended; times in ms, None where it did not come to it.

    On a kept connection nothing is looked up or connected. `ttfb_ms` counts from having a connection.
    """

    sent: bool = False
    address: str = ""
    dns_ms: int | None = None
    connect_ms: int | None = None
    ttfb_ms: int | None = None


@dataclass(slots=True)
class Dial:
    """One attempt as its connection is made: aiohttp's hooks find it in their context, for they are not told whose."""

    host: str
    attempt: Attempt
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(CONNECT_S))
    protocol: ResponseHandler | None = None
    # A refusal at the socket, which aiohttp takes for one address that does not answer; what the caller's body raised.
    refusal: ResolveError | None = None
    fault: Exception | None = None
    _since_s: float = 0.0

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """Time the look-up, which is no part of connecting."""
        self.limit.reschedule(None)
        self.start()
        try:
            yield
        finally:
            self.attempt.dns_ms = self.lap_ms()
            self.limit.reschedule(self._since_s + CONNECT_S)

    def start(self) -> None:
        """Begin to measure."""
        self._since_s = asyncio.get_running_loop().time()

    def lap_ms(self) -> int:
        """Return how long it took, and begin to measure what comes next."""
        before_s = self._since_s
        self.start()
        return round((self._since_s - before_s) * 1000)


DIAL: ContextVar[Dial] = ContextVar("dial")


class _Addresses(AbstractResolver):
    """Gives aiohttp the addresses that the resolver vouches for, and no others."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return all addresses of a host."""
        del family  # both kinds are public or refused
        with DIAL.get().looking_up():
            addresses = await self._resolver.resolve(host)
        return [_found(host, str(address), port) for address in addresses]

    async def close(self) -> None:
        """Do nothing: it holds nothing."""


class Connector(TCPConnector):
    """Connects to public addresses only, within the time for it, and notes from when on bytes may leave."""

    def __init__(self, resolver: Resolver, tls: ssl.SSLContext | None) -> None:
        self._guard = resolver
        super().__init__(
            resolver=_Addresses(resolver),
            # The resolver remembers names itself, for as long as they say.
            use_dns_cache=False,
            socket_factory=self._make_socket,
            ssl=tls or True,
            limit=CONNECTIONS,
            limit_per_host=PER_HOST,
            keepalive_timeout=KEPT_S,
        )

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 aiohttp's name
        """Return a connection that nothing is wrong with; after this, the request counts as sent."""
        dial = DIAL.get()
        dial.start()
        async with dial.limit:
            while _spoilt(connection := await super().connect(req, traces, timeout)):
                connection.close()
                # A kept one may well be; a new one is not tried for ever.
                if dial.attempt.dns_ms is not None:
                    detail = f"{dial.host}: the connection was of no use before anything was sent"
                    raise EgressError(ProxyError.CONNECTION_TERMINATED, detail, sent=False)
        if dial.refusal is not None:
            connection.close()
            raise dial.refusal
        return _noted(connection, dial)

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        """Make a socket for an address, if it may be called: whatever gave it to aiohttp."""
        family, kind, protocol, _, address = info
        dial = DIAL.get()
        try:
            self._guard.check(dial.host, [ip_address(address[0])])
        except ResolveError as error:
            dial.refusal = error
            # Of several addresses, aiohttp forgives only this kind of exception.
            raise PermissionError(errno.EACCES, error.detail) from None
        return socket.socket(family, kind, protocol)


def _found(host: str, address: str, port: int) -> ResolveResult:
    """Return an address as aiohttp has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=flags)


def _spoilt(connection: Connection) -> bool:
    """Say whether a connection is broken, or has said something that nobody has asked for.

    Many servers send a 408 before they close a connection that nobody used: it would be taken for the next answer.
    """
    return connection.protocol is None or connection.protocol.should_close or connection.closed


def _noted(connection: Connection, dial: Dial) -> Connection:
    transport, dial.protocol = connection.transport, connection.protocol
    peer = transport and transport.get_extra_info("peername")
    dial.attempt.address = peer[0] if peer else ""
    taken_ms = dial.lap_ms()
    if dial.attempt.dns_ms is not None:
        dial.attempt.connect_ms = taken_ms
    dial.attempt.sent = True
    return connection


@contextmanager
def explained(dial: Dial) -> Iterator[None]:
    """Map what DNS, sockets, TLS and aiohttp raise to EgressError; what the caller's own body raised stays."""
    try:
        yield
    except (ClientError, OSError, ResolveError) as error:
        if dial.fault is not None:
            raise dial.fault from None
        refused = dial.refusal or error
        # aiohttp's texts have the URL in them, whose query may be a secret.
        raise _explanation(refused, dial) from None


def _explanation(error: Exception, dial: Dial) -> EgressError:
    if isinstance(error, ResolveError):
        return EgressError(ProxyError(error.reason), error.detail, sent=dial.attempt.sent)
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    reason = _timeout_of(dial) if type(cause) in TIMEOUTS else reason_of(cause)
    words = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else reason.replace("_", " ")
    return EgressError(reason, f"{dial.host}: {words}", sent=dial.attempt.sent)


def _timeout_of(dial: Dial) -> ProxyError:
    """Return what took too long, when nothing but the clock said so."""
    if dial.attempt.sent:
        return ProxyError.HTTP_RESPONSE_TIMEOUT
    return ProxyError.CONNECTION_LIMIT_REACHED if dial.attempt.dns_ms is None else ProxyError.CONNECTION_TIMEOUT
