"""Owns how connections come in: off a bound socket, through PROXY protocol and TLS where a listener has them.

Must not know what serves them.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from sovren_edge.auth.networks import Networks
from sovren_edge.errors import Problem
from sovren_edge.http.answer import encode, problem_answer
from sovren_edge.http.proxy_protocol import FIXED_SIZE, ProxyHeaderError, caller_address, rest_size
from sovren_edge.limits import Descriptors, Limits
from sovren_edge.observe.stats import ListenerStats

# Accepted one after the other; then others get their turn.
ACCEPTED_A_TURN = 16
# How long a system that cannot accept is left alone, and a refused caller has to read why.
PAUSE_S = 0.1
LINGER_S = 1.0

Serve = Callable[[str, Callable[[], None]], asyncio.Protocol]
"""Makes what serves a connection from an address; the second argument is to be called when the connection is lost."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """How connections come into one listener; `proxies` are whose PROXY headers it asks for and believes."""

    listening: socket.socket
    serve: Serve
    stats: ListenerStats
    limits: Limits
    descriptors: Descriptors
    patience_s: float
    # Nobody comes in before it is set.
    opened: asyncio.Event
    tls: ssl.SSLContext | None = None
    proxies: Networks | None = None


class Acceptor:
    """Accepts until it is closed."""

    def __init__(self, entrance: Entrance, group: asyncio.TaskGroup) -> None:
        self._entrance = entrance
        self._group = group
        self._accepting = group.create_task(_accept(entrance, group))

    def close(self, *, leave_backlog: bool = True) -> None:
        """Accept no more; open connections go on.

        Who waits in the system's backlog still comes in, unless it is left: to another process that accepts there.
        """
        listening = self._entrance.listening
        if listening.fileno() < 0:
            return
        self._accepting.cancel()
        asyncio.get_running_loop().remove_reader(listening.fileno())
        while not leave_backlog and self._entrance.descriptors.has_room:
            try:
                connection, peer = listening.accept()
            except OSError:
                break
            connection.setblocking(False)  # noqa: FBT003 - the library's signature
            _take_in(self._entrance, self._group, connection, peer[0])
        listening.close()


@asynccontextmanager
async def accepting(entrance: Entrance) -> AsyncIterator[Acceptor]:
    """Accept connections until the block ends."""
    async with asyncio.TaskGroup() as group:
        acceptor = Acceptor(entrance, group)
        try:
            yield acceptor
        finally:
            acceptor.close()


async def _accept(entrance: Entrance, group: asyncio.TaskGroup) -> None:
    accepted = 0
    await entrance.opened.wait()
    while True:
        await entrance.descriptors.wait_for_room()
        try:
            connection, peer = entrance.listening.accept()
        except BlockingIOError:
            await _readable(entrance.listening)
            continue
        except OSError:
            # Out of descriptors or memory, or the caller is gone already.
            await asyncio.sleep(PAUSE_S)
            continue
        connection.setblocking(False)  # noqa: FBT003 - the library's signature
        _take_in(entrance, group, connection, peer[0])
        accepted += 1
        if accepted % ACCEPTED_A_TURN == 0:
            await asyncio.sleep(0)


async def _readable(listening: socket.socket) -> None:
    """Return when somebody has come; nobody who has is lost if this is cancelled."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not came.done():
            came.set_result(None)

    loop.add_reader(listening.fileno(), on_readable)
    try:
        await came
    finally:
        if listening.fileno() >= 0:
            loop.remove_reader(listening.fileno())


def _take_in(entrance: Entrance, group: asyncio.TaskGroup, connection: socket.socket, peer: str) -> None:
    entrance.descriptors.enter()
    group.create_task(_welcome(entrance, connection, peer))


async def _welcome(entrance: Entrance, connection: socket.socket, peer: str) -> None:
    """Bring a connection to what serves it, or end it."""
    gone = entrance.descriptors.leave
    try:
        address = peer if entrance.proxies is None else await _announced(entrance, entrance.proxies, connection, peer)
        problem = entrance.limits.enter(address)
        gone = partial(_leave, entrance, address)
        serve = partial(entrance.serve, address, gone) if problem is None else partial(_Refusal, problem, gone)
        loop, tls = asyncio.get_running_loop(), entrance.tls
        await loop.connect_accepted_socket(
            serve, connection, ssl=tls, ssl_handshake_timeout=None if tls is None else entrance.patience_s
        )
    except ProxyHeaderError:
        _turn_away(entrance, connection, "proxy_header", gone)
    except (OSError, asyncio.IncompleteReadError):
        _turn_away(entrance, connection, "handshake", gone)
    except asyncio.CancelledError:
        connection.close()
        gone()
        raise


def _turn_away(entrance: Entrance, connection: socket.socket, reason: str, gone: Callable[[], None]) -> None:
    entrance.stats.refused[reason] += 1
    connection.close()
    gone()


def _leave(entrance: Entrance, address: str) -> None:
    entrance.limits.leave(address)
    entrance.descriptors.leave()


async def _announced(entrance: Entrance, proxies: Networks, connection: socket.socket, peer: str) -> str:
    """Read the PROXY header; raises ProxyHeaderError, also for who may not send one or takes too long."""
    if not proxies.contains(peer):
        raise ProxyHeaderError("an address that is not trusted")
    try:
        async with asyncio.timeout(entrance.patience_s):
            fixed = await _read_exactly(connection, FIXED_SIZE)
            return caller_address(fixed, await _read_exactly(connection, rest_size(fixed))) or peer
    except TimeoutError:
        raise ProxyHeaderError("no header in time") from None


async def _read_exactly(connection: socket.socket, size: int) -> bytes:
    """Read no byte more: what follows belongs to TLS or HTTP."""
    read = b""
    while len(read) < size:
        data = await asyncio.get_running_loop().sock_recv(connection, size - len(read))
        if not data:
            raise ProxyHeaderError("the connection ended in the header")
        read += data
    return read


class _Refusal(asyncio.Protocol):
    """Tells a caller why it is not served, and leaves it a moment to read that: a reset could take the answer away."""

    def __init__(self, problem: Problem, gone: Callable[[], None]) -> None:
        self._problem = problem
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer; see asyncio.Protocol."""
        if not isinstance(transport, asyncio.WriteTransport):
            return
        transport.write(encode(problem_answer(self._problem), close=True))
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)
        if transport.can_write_eof():
            with suppress(OSError):
                transport.write_eof()

    def eof_received(self) -> None:
        """Let the transport close; see asyncio.Protocol."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._gone()
