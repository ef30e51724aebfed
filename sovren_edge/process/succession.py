"""Owns how a worker's process takes the place of another: what each of the two does with the way to the other.

Must not know what they share.
"""

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from sovren_edge.process.channel import Channel
from sovren_edge.process.composition import Worker
from sovren_edge.relay.generations import Predecessor, Successor

if TYPE_CHECKING:
    from sovren_edge.gateway.service import RunningGateway

# So long the one before has to say what it holds.
KNOWN_S = 5.0


class Succession(Protocol):
    """What two processes that serve the same share, until the older one has ended; `end` is of a way to the other."""

    def begin(self) -> None:
        """Serve, with no process before this one."""

    async def follow(self, end: socket.socket) -> None:
        """Return once it is known what the one before holds, or that it has gone."""

    async def give_way(self, end: socket.socket) -> None:
        """Share with one that follows, from now on; also with another one, when the first has died."""


class SharedSlots:
    """The slots of pools."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._successor = Successor(worker.relay, worker.pools)
        # For as long as the other lives.
        self._links: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """All slots are this one's; see Succession."""

    async def follow(self, end: socket.socket) -> None:
        """See Succession."""
        predecessor = Predecessor(self._worker.relay, self._worker.pools)
        channel = Channel(end, predecessor.methods())
        predecessor.begin(channel)
        link = asyncio.create_task(_end_with(channel, predecessor))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        with suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_S):
                await predecessor.known.wait()

    async def give_way(self, end: socket.socket) -> None:
        """See Succession."""
        self._successor.begin(Channel(end, self._successor.methods()))


class SharedLimit:
    """What a gateway knows, and who grants."""

    def __init__(self, gateway: "RunningGateway") -> None:
        self._gateway = gateway

    def begin(self) -> None:
        """See Succession."""
        self._gateway.begin()

    async def follow(self, end: socket.socket) -> None:
        """See Succession."""
        await self._gateway.succeed(lambda methods: Channel(end, methods))

    async def give_way(self, end: socket.socket) -> None:
        """See Succession."""
        await self._gateway.retire(lambda methods: Channel(end, methods))


async def _end_with(channel: Channel, predecessor: Predecessor) -> None:
    await channel.closed.wait()
    predecessor.closed()
