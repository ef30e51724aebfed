"""Owns one connection to an endpoint: reads responses off it and tells the exchange that it serves.

Must not know callers, pools or retries.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from sovren_edge.http.framing import BodyReader, FramingError, SizedReader, UntilCloseReader
from sovren_edge.http.response import SWITCHED, ResponseError, ResponseHead
from sovren_edge.relay.taker import Told

if TYPE_CHECKING:
    from pools.endpoint import Endpoint
    from sovren_edge.relay.connections import Connections

WRITE_BUFFER = 128 * 1024
# Interim answers that are read in one go; then others get their turn.
HEADS_A_TURN = 8


class Served(Told, Protocol):
    """What an upstream connection tells whoever it serves; with `answered_whole` and `ended` it is given back."""

    def broken(self, reason: str) -> None:
        """Take note that the connection ended, or spoke no HTTP, before the response was complete."""

    def upstream_paused(self, *, paused: bool) -> None:
        """Take note that the endpoint reads more slowly than we write, or has caught up."""


class Upstream(asyncio.Protocol):
    """A connection; it serves one exchange at a time, and is idle otherwise."""

    def __init__(self, endpoint: "Endpoint", connections: "Connections") -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport | None = None
        self.served: Served | None = None
        # Whether it has served before, and said nothing since: then its end says nothing about the endpoint.
        self.used = False
        self.write_paused = False
        # Nothing is read while the caller is slow, nor while what has come is not read to its end.
        self.held = self._behind = False
        self._reading = True
        self._connections = connections
        self._method = ""
        self._partial = b""
        self._response: ResponseHead | None = None
        self._reader: BodyReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; see asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)

    @property
    def usable(self) -> bool:
        """Whether a request may be written to it."""
        return self.transport is not None and not self.transport.is_closing()

    def begin(self, served: Served, method: str, request: bytes) -> None:
        """Serve an exchange: write its request's head and what there is of its body."""
        self.served = served
        self._partial = b""
        self._method = method
        if self.transport is not None:
            self.transport.write(request)

    def writelines(self, pieces: list[bytes]) -> None:
        """Send pieces of the request."""
        if self.transport is not None:
            self.transport.writelines(pieces)

    def write_eof(self) -> None:
        """Tell the endpoint that nothing more comes; it may go on sending, but under TLS."""
        if self.transport is None:
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def pause(self, *, paused: bool) -> None:
        """Stop reading while the caller is slow, or go on."""
        self.held = paused
        self._read_on()

    def _read_on(self) -> None:
        reading = not (self.held or self._behind)
        if reading == self._reading or self.transport is None or self.transport.is_closing():
            return
        self._reading = reading
        if reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def abort(self) -> None:
        """End the connection at once and serve nobody any more."""
        self.served = None
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read; see asyncio.Protocol."""
        now = self._connections.now()
        self.used = False
        if self._partial:
            data, self._partial = self._partial + data, b""
        heads = 0
        try:
            while data and self.served is not None and not self._partial:
                if self._reader is not None:
                    data = self._read_body(self._reader, data, now)
                elif heads == HEADS_A_TURN:
                    self._put_off(data)
                else:
                    heads += 1
                    data = self._read_head(data, now)
        except (ResponseError, FramingError) as error:
            self._break(str(error))
            return
        if self.served is not None:
            self.served.flush()
        elif data:
            # Bytes that belong to no request: whatever follows on this connection cannot be trusted.
            self._connections.discard(self)

    def eof_received(self) -> None:
        """Let the transport close; see asyncio.Protocol."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell how the response ended; see asyncio.Protocol."""
        while self._behind and self.served is not None:
            self._behind = False
            self.data_received(b"")  # what came before the end is read before the end is judged
        self.transport = None
        self._connections.lost(self)
        if self.served is None:
            return
        if exc is None and isinstance(self._reader, UntilCloseReader):
            self._end(None, self._connections.now())
        else:
            self._break("the connection was closed" if exc is None else f"the connection broke ({type(exc).__name__})")

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.write_paused = True
        if self.served is not None:
            self.served.upstream_paused(paused=True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.write_paused = False
        if self.served is not None:
            self.served.upstream_paused(paused=False)

    def _read_head(self, data: bytes, now: float) -> bytes:
        """Read as far as the response's head goes; return what stands behind it."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self._connections.head_limit:  # noqa: PLR2004 - not found
            if len(data) > self._connections.head_limit:
                raise ResponseError("the response's head is too long")
            self._partial = data
            return b""
        response = self._connections.responses[data[:end]]
        served = self.served
        if served is None:
            return data[end:]
        if response.interim:
            served.interim(response)
            return data[end:]
        if response.length == len(data) - end and response.sized(self._method):
            # All at once, as most short answers come.
            self._let_go(response)
            served.answered_whole(response, data[end:], now)
            return b""
        self._response = response
        if response.status == SWITCHED:
            if not served.switched(response, now):
                raise ResponseError("a switch of protocols that nobody asked for")
            self._reader = UntilCloseReader()
            return data[end:]
        self._reader = reader = response.reader(self._method)
        served.answered(response, now, sized=isinstance(reader, SizedReader))
        if reader.done and self.served is served:
            self._end(response, now, data[end:])
        return data[end:]

    def _read_body(self, reader: BodyReader, data: bytes, now: float) -> bytes:
        served = self.served
        pieces, rest = reader.feed(data)
        if pieces and served is not None:
            served.body(pieces, now)
        if reader.done and self.served is served:
            self._end(self._response, now, rest)
        elif rest:
            self._put_off(rest)
        return rest

    def _put_off(self, data: bytes) -> None:
        """Read many small pieces further when others have had their turn, and no new ones before that."""
        self._partial = data
        self._behind = True
        self._read_on()
        asyncio.get_running_loop().call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._behind = False
        if self._partial:
            self.data_received(b"")
        self._read_on()

    def _end(self, response: ResponseHead | None, now: float, rest: bytes = b"") -> None:
        """Give the connection back before the slot, so that the next lease finds it."""
        served = self.served
        self._response = self._reader = None
        self._let_go(None if rest else response)
        if served is not None:
            served.ended(now)

    def _let_go(self, response: ResponseHead | None) -> None:
        self.served = None
        self.used = True
        # An endpoint may answer before the whole request has left.
        if (
            response is None
            or not response.keep_alive
            or self.transport is None
            or self.transport.get_write_buffer_size()
        ):
            self._connections.discard(self)
        else:
            self._connections.give_back(self)

    def _break(self, reason: str) -> None:
        served, self.served = self.served, None
        self._connections.discard(self)
        if served is not None:
            served.broken(reason)
