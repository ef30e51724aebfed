"""Owns sending one request to an external API: the request as it was given, the answer as it came.

A request is sent at most once. aiohttp would send a GET again whose connection broke, unless it sees an exception that
it does not know; so each of its exceptions becomes an EgressError before aiohttp itself sees it (`_once`). And it is
never in doubt whether a request may have been sent: from the moment that it has a connection, it counts as sent.

Must not know subscribers, limits, which hosts are on the list, or which fields travel.
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import (
    ClientHandlerType,
    ClientOSError,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from yarl import URL

from sovren_edge.gateway.egress.dial import DIAL, Attempt, Connector, Dial, explained
from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.fields import OF_CONNECTION, Field
from sovren_edge.gateway.egress.policy import Target
from sovren_edge.gateway.egress.proxy_status import ProxyError
from sovren_edge.gateway.egress.resolver import Resolver

PORT = 443
IDLE_S, TOTAL_S = 15.0, 30.0
MOST_BYTES = 50 * 1024 * 1024
# Of one field of an answer: content security policies grow longer than the usual 8 KiB.
LONGEST_FIELD = 32 * 1024
PIECE = 64 * 1024

USER_AGENT = "sovren-edge"
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# Written here from what is known of the body and the target; a second one would be smuggling.
FRAMING = OF_CONNECTION | {"content-length", "expect", "host"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What upstream answered: its fields in order, as they came; text is UTF-8 with surrogates for other bytes."""

    status: int
    reason: str
    fields: list[Field]
    attempt: Attempt
    _pieces: AsyncIterator[bytes]

    def body(self) -> AsyncIterator[bytes]:
        """Return the body as it came, nothing decompressed; to be read once; raises EgressError."""
        return self._pieces


@dataclass(frozen=True, slots=True)
class Egress:
    """Sends requests over connections that it keeps for the next ones to the same host."""

    _session: ClientSession
    _port: int

    @asynccontextmanager
    async def send(
        self,
        target: Target,
        method: str,
        fields: Sequence[Field],
        body: AsyncIterable[bytes] | bytes = b"",
        *,
        length: int | None = None,
        attempt: Attempt | None = None,
        total_s: float | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request, with these fields and no others but Host, framing and, if missing, User-Agent.

        `total_s` bounds all of it. `length` is the size of a body that is not at hand as bytes; without it, it is sent
        in chunks. Whatever happens, also when the caller is cancelled, `attempt` tells what came of it. Raises
        EgressError, or what `body` raises.
        """
        if forbidden := next((name for name, _ in fields if name.lower() in FRAMING), None):
            raise ValueError(f"the field {forbidden} is not the caller's to give")
        dial = Dial(target.host, attempt or Attempt())
        made = _Body.of(body, length, dial)
        response = await self._answer_to(
            dial, target, method, _with_user_agent(fields), made, total_s=total_s or TOTAL_S
        )
        try:
            yield _answer(response, dial)
        finally:
            await _leave(response)

    async def _answer_to(
        self, dial: Dial, target: Target, method: str, fields: Sequence[Field], body: "_Body | None", *, total_s: float
    ) -> ClientResponse:
        async def once(request: ClientRequest, connect_and_send: ClientHandlerType) -> ClientResponse:
            return await _once(request, connect_and_send, dial, fields)

        framing = {} if body is None or body.length is None else {"Content-Length": str(body.length)}
        token = DIAL.set(dial)
        try:
            with explained(dial):
                return await self._session.request(
                    method,
                    _url(target, self._port),
                    data=None if body is None else body.pieces(),
                    headers=framing,
                    allow_redirects=False,
                    middlewares=(once,),
                    timeout=ClientTimeout(total=total_s, sock_read=IDLE_S),
                )
        finally:
            DIAL.reset(token)


@asynccontextmanager
async def open_egress(
    resolver: Resolver, *, tls: ssl.SSLContext | None = None, port: int = PORT
) -> AsyncIterator[Egress]:
    """Open the way out; tests name the authority that they trust and the port of their server."""
    async with ClientSession(
        connector=Connector(resolver, tls),
        cookie_jar=DummyCookieJar(),
        skip_auto_headers=NOT_ADDED,
        auto_decompress=False,
        trust_env=False,
        max_field_size=LONGEST_FIELD,
    ) as session:
        yield Egress(session, port)


async def _once(
    request: ClientRequest, connect_and_send: ClientHandlerType, dial: Dial, fields: Sequence[Field]
) -> ClientResponse:
    """Send a request and return the head of its answer; what aiohttp would send again on never gets past here."""
    request.headers["Host"] = dial.host
    # Given to the session instead, fields whose names differ only in case would replace each other.
    for name, value in fields:
        request.headers.add(name, value)
    try:
        with explained(dial):
            response = await connect_and_send(request)
    except BaseException:
        # The caller's body is read by a task of aiohttp's, which must not outlive the attempt.
        with suppress(Exception):
            await request.close()
        raise
    dial.attempt.ttfb_ms = dial.lap_ms()
    return response


@dataclass(frozen=True, slots=True)
class _Body:
    """A request's body on its way: `length` in bytes if it is known."""

    source: AsyncIterable[bytes]
    length: int | None
    dial: Dial

    @classmethod
    def of(cls, body: AsyncIterable[bytes] | bytes, length: int | None, dial: Dial) -> "_Body | None":
        """Return a body, None if it is empty."""
        if isinstance(body, bytes):
            return cls(_cut(body), len(body), dial) if body else None
        return None if length == 0 else cls(body, length, dial)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield it piece by piece; what its source raises is kept, for it is no fault of upstream's."""
        given = 0
        try:
            async for piece in self.source:
                given += len(piece)
                # Bytes beyond the length would be read as the next request on this connection.
                if self.length is not None and given > self.length:
                    break
                yield piece
            if self.length not in {None, given}:
                raise ValueError(f"a body of {self.length} bytes was announced and another one given")  # noqa: TRY301
        except Exception as error:
            self.dial.fault = error
            raise


async def _cut(body: bytes) -> AsyncIterator[bytes]:
    """Yield bytes in pieces that do not hold up the loop."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _url(target: Target, port: int) -> URL:
    """Return what aiohttp reads a URL from: the host in lower case, behind it the caller's bytes."""
    rest = target.url[target.url.index("/", len("https://")) :]
    authority = target.host if port == PORT else f"{target.host}:{port}"
    url = URL(f"https://{authority}{rest}", encoded=True)
    if url.raw_path_qs != rest or url.raw_host != target.host:
        raise ValueError("the URL that would be sent is not the one that was checked")
    return url


def _with_user_agent(fields: Sequence[Field]) -> Sequence[Field]:
    """Return fields with a User-Agent: many services refuse requests without one."""
    given = any(name.lower() == "user-agent" for name, _ in fields)
    return fields if given else [*fields, ("User-Agent", USER_AGENT)]


def _answer(response: ClientResponse, dial: Dial) -> Answer:
    if response.status < HTTPStatus.OK:
        # Only 101 gets here, and nobody asks for another protocol.
        raise EgressError(ProxyError.HTTP_PROTOCOL_ERROR, f"{dial.host}: it changed the protocol", sent=True)
    fields = [(_text(name), _text(value)) for name, value in response.raw_headers]
    return Answer(response.status, response.reason or "", fields, dial.attempt, _pieces(response, dial))


async def _pieces(response: ClientResponse, dial: Dial) -> AsyncIterator[bytes]:
    """Yield an answer's body as it comes, up to the most that is let through."""
    taken = 0
    with explained(dial):
        async for piece in response.content.iter_any():
            taken += len(piece)
            if taken > MOST_BYTES:
                _abort(response)
                detail = f"{dial.host}: its answer is longer than {MOST_BYTES} bytes"
                raise EgressError(ProxyError.HTTP_RESPONSE_BODY_SIZE, detail, sent=True)
            yield piece
        # Without a length, aiohttp takes a connection that broke for one that was closed at the end of the answer.
        if dial.protocol is not None and isinstance(dial.protocol.exception(), ClientOSError):
            raise ClientPayloadError


async def _leave(response: ClientResponse) -> None:
    """Close the connection of an answer that was not read to its end; wait until nobody reads the caller's body."""
    _abort(response)
    with suppress(Exception):
        await response.wait_for_close()


def _abort(response: ClientResponse) -> None:
    """Cut the connection, if the answer still has it; closing it politely would go on reading for a while."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
