"""Owns how a worker's process takes the place of another: what each of the two does with the way to the other.

Must not know what they share.
"""

import asyncio
import socket
from typing import Protocol

from sovren_edge.process.channel import Channel
from sovren_edge.process.composition import Worker
from sovren_edge.relay.generations import Predecessor, Successor

# So long the one before has to say what it holds.
KNOWN_S = 5.0


class Succession(Protocol):
    """What two processes that serve the same share, until the older one has ended; `end` is of a way to the other."""

    async def follow(self, end: socket.socket) -> None:
        """Return once it is known what the one before holds, or that it has gone."""

    async def give_way(self, end: socket.socket) -> None:
        """Share with one that follows, from now on; also with another one, when the first has died."""


class SlotsShared:
    """The slots of pools."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._successor = Successor(worker.relay, worker.pools)
        # For as long as the other lives.
        self._links: set[asyncio.Task[None]] = set()

    async def follow(self, end: socket.socket) -> None:
        """See Succession."""
        methods: dict[str, object] = {}
        channel = Channel(end, methods)  # type: ignore[arg-type]  # filled before anything can come
        predecessor = Predecessor(self._worker.relay, self._worker.pools, channel.tell)
        methods |= predecessor.methods()
        link = asyncio.create_task(_end_with(channel, predecessor))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        async with asyncio.timeout(KNOWN_S):
            await predecessor.known.wait()

    async def give_way(self, end: socket.socket) -> None:
        """See Succession."""
        self._successor.begin(Channel(end, self._successor.methods()))


async def _end_with(channel: Channel, predecessor: Predecessor) -> None:
    await channel.closed.wait()
    predecessor.closed()
