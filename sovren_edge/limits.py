"""Owns how many connections of callers may be open: on one listener, from one address, and in all.

Must not know how connections are accepted or served.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from sovren_edge.auth.networks import Networks
from sovren_edge.errors import Problem
from sovren_edge.observe.stats import ListenerStats

# Descriptors beside those of callers and endpoints: listeners, the log, the database, probes.
RESERVED = 128
FEWEST_CALLERS = 16

REASON = "too_many_connections"
FULL = Problem(503, REASON, "This port has as many connections as it may have.", retry_after_s=1)
ADDRESS_FULL = Problem(503, REASON, "Your address has as many connections as it may have.", retry_after_s=1)


class Descriptors:
    """The descriptors of a process, as far as callers use them: one each, and perhaps one more for an endpoint.

    At `most` callers nobody is let in: who comes waits in the system's backlog. `tell` hears when that begins and ends.
    """

    def __init__(self, most: int, tell: Callable[[str], None]) -> None:
        self.most = most
        self.open = 0
        self._tell = tell
        self._room = asyncio.Event()
        self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether one more may come in now."""
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Return when one more may come in."""
        await self._room.wait()

    def enter(self) -> None:
        """Take in one more."""
        self.open += 1
        if self.open >= self.most and self._room.is_set():
            self._room.clear()
            self._tell("descriptors_exhausted")

    def leave(self) -> None:
        """Let one go; others come in when a few have gone, so that it is not full and empty by turns."""
        self.open -= 1
        if not self._room.is_set() and self.open <= self.most - max(1, self.most // 20):
            self._room.set()
            self._tell("descriptors_freed")


def most_callers(descriptors: int, kept: int) -> int:
    """Return how many callers this many descriptors allow, where `kept` may belong to idle connections to endpoints."""
    return max((descriptors - RESERVED - kept) // 2, descriptors // 4, 1)


def fewest_descriptors(listeners: int, endpoints: int) -> int:
    """Return with how few descriptors a process can serve at all: some callers, and a connection to each endpoint."""
    return RESERVED + listeners + endpoints + 2 * FEWEST_CALLERS


class Limits:
    """One listener's connections; addresses in `exempt` speak for many callers, so they have no limit of their own."""

    def __init__(self, most: int, most_per_address: int, exempt: Networks, stats: ListenerStats) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._exempt = exempt
        self._stats = stats
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> Problem | None:
        """Count one more connection; return why it must be refused."""
        self._stats.connections += 1
        self._by_address[address] += 1
        if self._stats.connections > self._most:
            self._stats.refused["listener_full"] += 1
            return FULL
        if self._by_address[address] > self._most_per_address and not self._exempt.contains(address):
            self._stats.refused["address_full"] += 1
            return ADDRESS_FULL
        return None

    def leave(self, address: str) -> None:
        """Count one less."""
        self._stats.connections -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
