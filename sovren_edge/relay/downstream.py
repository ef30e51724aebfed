"""Owns one caller's connection: reads requests off it, in order, and writes what exchanges answer.

Must not know endpoints or pools. A caller that closes its side has left: its work ends at once.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from sovren_edge.errors import Problem
from sovren_edge.http.answer import Answer, encode, problem_answer
from sovren_edge.http.framing import BodyReader, ChunkedReader, FramingError, SizedReader, UntilCloseReader
from sovren_edge.http.request import Caller, HeadError, RequestHead, refuse_hopeless
from sovren_edge.relay import problems, timeouts
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.exchange import Exchange
from sovren_edge.relay.reply import JOIN_LIMIT

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Door, Relay

WRITE_BUFFER = 128 * 1024
PIPELINE_BUFFER = 64 * 1024
# As much of one answer is read off its endpoint, so that nobody holds a slot while listening.
READ_AHEAD = 2 * 1024 * 1024
OWN_PATHS = frozenset({"/health", "/ready", "/metrics", "/status"})
# What TCP_INFO says of a connection that was reset (CLOSE) or closed by its caller (CLOSE_WAIT).
LEFT_STATES = frozenset({7, 8})
BAD_REQUEST = 400
# Pages and refusals that are answered in one go; then others get their turn.
HEADS_A_TURN = 8
NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# Closing with this set sends a reset.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Downstream(asyncio.Protocol):
    """A connection from a caller; at most one exchange at a time, further requests wait their turn."""

    def __init__(self, relay: "Relay", door: "Door", address: str, gone: Callable[[], None]) -> None:
        """Serve the caller at `address`; `gone` is called when the connection is lost."""
        self.relay = relay
        self.door = door
        self.address = address
        self.caller = Caller(address.encode(), door.scheme)
        self._gone = gone
        self.transport: asyncio.Transport | None = None
        # Of relay.deadlines: what is waited for follows from the state.
        self.deadline = self.looked_at = NEVER
        self.bucket = 0
        self._heading = False
        self._requests = relay.requests[door.trusted.contains(address)]
        self._exchange: Exchange | None = None
        self._reader: BodyReader | None = None
        self._partial = b""
        self._reading = False
        self._unsent = 0
        self._closing = False
        self._held = False
        self._paused = False
        self.write_paused = False
        # Bytes of the budget that are this caller's.
        self._ahead = 0

    @property
    def busy(self) -> bool:
        """Whether a request is being served, or its answer is still being sent."""
        return self._exchange is not None or self._unsent_bytes > 0

    def read_ahead(self) -> bool:
        """Whether more of an answer may be written although the caller is slow to read."""
        if not self._ahead and self.relay.budget.take(READ_AHEAD):
            self._ahead = READ_AHEAD
        return self._unsent_bytes < self._ahead

    def _give_back(self) -> None:
        ahead, self._ahead = self._ahead, 0
        if ahead:
            self.relay.budget.give(ahead)

    @property
    def _unsent_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; see asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        if NOTSENT_LOWAT is not None:
            # Without it, the system buffers megabytes for a slow caller, and tells of its progress once a minute.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, WRITE_BUFFER)
        self.relay.downstreams.add(self)
        if self.door.allow.contains(self.address):
            self.wait_until(self.relay.now() + self.relay.settings.head_timeout_s)
        else:
            self._refuse(problems.ADDRESS_NOT_ALLOWED)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End the exchange with its caller; see asyncio.Protocol."""
        self.transport = None
        self._give_back()
        relay = self.relay
        relay.downstreams.discard(self)
        relay.paused.discard(self)
        relay.deadlines.forget(self)
        self._gone()
        if self._exchange is not None:
            self._exchange.caller_left()

    def eof_received(self) -> bool:
        """Take a closed sending side as leaving, but in a tunnel; see asyncio.Protocol."""
        if self._exchange is not None:
            if self._exchange.caller_closed():
                return True
            self.abort()
        return False

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.caller_paused(paused=True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.write_paused = False
        self._give_back()
        if self._exchange is not None:
            self._exchange.caller_paused(paused=False)
        else:
            self._take_turn()

    def data_received(self, data: bytes) -> None:
        """Read; see asyncio.Protocol."""
        if self._partial:
            data, self._partial = self._partial + data, b""
        self._reading = True
        try:
            self._read(data)
        except HeadError as error:
            self._refuse(problems.malformed_head(error))
        except FramingError as error:
            self._break(str(error))
        finally:
            self._reading = False

    def _read(self, data: bytes) -> None:
        heads = 0
        while data and not self._closing and self.transport is not None:
            if self._reader is not None:
                data = self._read_body(self._reader, data)
                if data and self._reader is not None:
                    self._yield(data)
                    return
            elif heads == HEADS_A_TURN:
                self._yield(data)
                return
            elif self._exchange is None and not self.write_paused:
                heads += 1
                data = self._read_head(data)
            else:
                # A further request waits until the one before it is answered, and the answer is being read.
                self._partial = data
                self._read_on(reading=len(data) <= PIPELINE_BUFFER)
                return

    def _yield(self, data: bytes) -> None:
        """Read the rest when others have had their turn: no caller's bytes may hold the loop."""
        self._partial = data
        self._read_on(reading=False)
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Go on reading, and turn to what has been read but not looked at, unless a request must be answered first."""
        if self._held:
            return
        busy = self._reader is None and (self._exchange is not None or self.write_paused)
        self._read_on(reading=not busy or len(self._partial) <= PIPELINE_BUFFER)
        if self._partial and not busy and not self._reading:
            self.data_received(b"")

    def _read_on(self, *, reading: bool) -> None:
        if self.transport is None or self.transport.is_closing() or reading != self._paused:
            return
        self._paused = not reading
        if reading:
            self.transport.resume_reading()
            self.relay.paused.discard(self)
        else:
            self.transport.pause_reading()
            self.relay.paused.add(self)

    def _read_head(self, data: bytes) -> bytes:
        """Read one request's head as far as it has come; return what stands behind it."""
        if data.startswith((b"\r", b"\n")):
            # RFC 9112 section 2.2: an empty line before the request line is passed over.
            data = data.lstrip(b"\r\n")
        limit = self.relay.settings.head_limit
        end = data.find(b"\r\n\r\n", 0, limit) + 4
        if end < 4:  # noqa: PLR2004 - not found
            refuse_hopeless(data, limit)
            self._partial = data
            if not self._heading:
                self._heading = True
                self.wait_until(self.relay.now() + self.relay.settings.head_timeout_s)
            return b""
        request = self._requests[data[:end]]
        now = self.relay.now()
        self._heading = False
        door = self.door
        if request.path in OWN_PATHS or door.alone:
            answer = door.pages.answer(request.method, request.path, self.address)
            if answer is not None:
                self._answer_page(request, answer, now)
                return data[end:]
        self._exchange = exchange = Exchange(self.relay, door, self, request, now)
        if not request.bodiless:
            stop = end + request.length
            if end < stop <= len(data) and request.length <= self.relay.settings.kept_body_limit:
                # All at once, as most short requests come.
                exchange.start(data[end:stop])
                return data[stop:]
            self._reader = ChunkedReader() if request.chunked else SizedReader(request.length)
        exchange.start()
        return data[end:]

    def _read_body(self, reader: BodyReader, data: bytes) -> bytes:
        pieces, rest = reader.feed(data)
        exchange = self._exchange
        if reader.done:
            self._reader = None
        if exchange is not None:
            if pieces:
                exchange.take_body(pieces)
            if reader.done:
                exchange.end_body()
        return rest

    def _answer_page(self, request: RequestHead, answer: Answer, now: float) -> None:
        close = not request.keep_alive or not request.bodiless or not request.minor or self.relay.draining
        request_id = (request.request_id or next(self.relay.request_ids)).decode()
        if answer.status >= BAD_REQUEST:
            self.relay.journal.answered(
                self.door, self.address, request_id, answer, "page", method=request.method, path=request.path
            )
        self.write(encode(answer, request_id=request_id, close=close, bodiless=request.method == "HEAD"))
        self.finish(close=close, now=now, linger=not request.bodiless)

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        if self.transport is not None:
            self.transport.write(data)

    def send(self, pieces: list[bytes]) -> None:
        """Send pieces of an answer; small ones in one write, large ones without a copy."""
        if self.transport is None:
            return
        if sum(map(len, pieces)) <= JOIN_LIMIT:
            self.transport.write(b"".join(pieces))
        else:
            self.transport.writelines(pieces)

    def pause(self, *, paused: bool) -> None:
        """Hold the caller's bytes back, or let them come."""
        self._held = paused
        if paused:
            self._read_on(reading=False)
        else:
            self._take_turn()

    def finish(self, *, close: bool, now: float, linger: bool = False) -> None:
        """Go on to the next request, or close behind the answer; `linger` if the caller is still sending."""
        self._exchange = None
        if close or self.transport is None:
            self._close(linger=self._reader is not None or linger)
            return
        self.wait_until(now + self.relay.settings.keepalive_timeout_s)
        if self._partial or self._paused or self._held:
            self.pause(paused=False)

    def answer(self, answer: Answer, request: RequestHead, request_id: str, *, close: bool, now: float) -> None:
        """Answer a request that no endpoint answers, and go on or close."""
        self.write(encode(answer, request_id=request_id, close=close, bodiless=request.method == "HEAD"))
        self.finish(close=close, now=now)

    def open_tunnel(self) -> None:
        """Read no more requests: all that comes from now on goes to the exchange."""
        self._reader = UntilCloseReader()
        self._take_turn()

    def wait_until(self, deadline: float) -> None:
        """Set when this connection has waited too long."""
        self.deadline = deadline
        if deadline < self.looked_at:
            self.relay.deadlines.bring_forward(self)

    def abort(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def close_broken(self, *, reset: bool) -> None:
        """Send what is written, then end the connection in the middle of the answer; or reset it at once."""
        self._exchange = None
        if reset and self.transport is not None:
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self._close()

    def close_when_idle(self) -> None:
        """Close now if no request is being served or read."""
        if self._exchange is None and not self._partial:
            self._close()

    def expire(self) -> None:
        """End what has waited too long: an exchange, a head, an idle connection, or its last bytes."""
        unsent, self._unsent = self._unsent, self._unsent_bytes
        if 0 < self._unsent < unsent:
            # Slow, but still reading.
            self.wait_until(self.relay.now() + self.relay.settings.idle_timeout_s)
        elif self._exchange is not None:
            self._exchange.timed_out(self.relay.now())
        elif self._closing:
            self.abort()
        elif self._partial:
            self.door.stats.timeouts[timeouts.HEAD.kind] += 1
            self._refuse(timeouts.HEAD.problem)
        else:
            self._close()

    def check_presence(self) -> None:
        """Notice a caller that left while nothing is read from it, where the system can tell."""
        if self.transport is None or not hasattr(socket, "TCP_INFO"):
            return
        connection = self.transport.get_extra_info("socket")
        if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in LEFT_STATES:
            self.abort()

    def _refuse(self, problem: Problem) -> None:
        """Answer bytes that are no request, and close: what follows them cannot be trusted."""
        request_id = next(self.relay.request_ids).decode()
        answer = problem_answer(problem, request_id)
        self.door.stats.count_refusal(problem.status)
        self.relay.journal.answered(self.door, self.address, request_id, answer, problem.reason)
        self.write(encode(answer, request_id=request_id, close=True))
        self._close(linger=True)

    def _break(self, detail: str) -> None:
        """End a request whose body is not framed as it should be."""
        if self._exchange is not None:
            self._exchange.body_broken(detail)

    def _close(self, *, linger: bool = False) -> None:
        """Close once everything is written; to `linger` is to read and drop what the caller still sends.

        Closing with unread bytes would make the system reset the connection, and the caller could lose the answer.
        """
        if self.transport is None or self._closing:
            return
        self._closing = True
        self._partial = b""
        self._unsent = self._unsent_bytes
        settings = self.relay.settings
        # Who still has to read may pause as long as in the middle of an answer.
        self.wait_until(self.relay.now() + (settings.idle_timeout_s if self._unsent else settings.head_timeout_s))
        if linger and self.transport.can_write_eof():
            self._read_on(reading=True)
            self.transport.write_eof()
        else:
            self.transport.close()
