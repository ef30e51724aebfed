"""Owns the old process's side of a pool that two processes share: it keeps what it uses, and asks for what it needs.

Must not know what the successor's queue is like; see handover.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from pools.admission import Event, Lease, Waiter
from pools.endpoint import Endpoint
from pools.handover import Given, Tell, pack

if TYPE_CHECKING:
    from pools.pool import Pool

# For so long an endpoint is not ready here after the successor could not lend a slot of it.
AWAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Want:
    """A place in the successor's queue, for a slot of one of these addresses."""

    ticket: int
    usable: frozenset[str]


class Retired:
    """What a pool that has a successor shares with it."""

    def __init__(self, pool: "Pool", tell: Tell) -> None:
        self._pool = pool
        self._tell = tell
        # Those whose slots are shared, by address.
        self._shared: dict[str, Endpoint] = {}
        self._wants: dict[Waiter, Want] = {}
        # Wants that the successor has not answered.
        self._open: dict[int, Waiter] = {}
        self._tickets = count(1)
        self._away: dict[Endpoint, float] = {}
        # Who has left the slot that is free now.
        self._left_by = ""

    def begin(self, now: float) -> Sequence[Event]:
        """Keep no more slots than leases hold, and tell who holds them."""
        held = self._pool.retire(self, now)
        for endpoint in held:
            endpoint.lendable = True
            self._share(endpoint, endpoint.inflight)
        self._tell("held", leases={endpoint.address.decode(): holdings for endpoint, holdings in held.items()})
        return self._pool.review(now)

    def _share(self, endpoint: Endpoint, slots: int) -> None:
        self._shared[endpoint.address.decode()] = endpoint
        endpoint.allot(slots)

    def joined(self, endpoint: Endpoint) -> None:
        """Take in an endpoint; all of its slots are the successor's."""
        self._share(endpoint, 0)

    def ended(self, lease: Lease) -> None:
        """Take note of a lease that has ended; what becomes of its slot is settled next."""
        self._left_by = lease.demand.caller

    def left(self, waiter: Waiter) -> None:
        """Take note of a waiter who has left, or was served."""
        want = self._wants.pop(waiter, None)
        if want is not None and self._open.pop(want.ticket, None) is not None:
            self._tell("unwanted", ticket=want.ticket)

    def settle(self, queue: Collection[Waiter], ready: Collection[Endpoint], now: float) -> None:
        """Give back slots that are still free, and ask for what those who are still waiting can use."""
        for address, endpoint in self._shared.items():
            # There is one at most: it is settled after each change.
            if endpoint.free > 0:
                endpoint.allot(endpoint.inflight)
                self._tell("returned", address=address, caller=self._left_by)
        self._left_by = ""
        for waiter in [waiter for waiter in self._wants if waiter not in queue]:
            self.left(waiter)
        addresses = {endpoint: address for address, endpoint in self._shared.items() if endpoint in ready}
        for waiter in queue:
            self._ask(waiter, frozenset(addresses[one] for one in addresses if one not in waiter.tried), now)

    def _ask(self, waiter: Waiter, usable: frozenset[str], now: float) -> None:
        want = self._wants.get(waiter)
        if want is not None and want.usable == usable and want.ticket in self._open:
            return
        self.left(waiter)
        if usable:
            ticket = next(self._tickets)
            self._open[ticket], self._wants[waiter] = waiter, Want(ticket, usable)
            self._tell(
                "wanted", ticket=ticket, usable=sorted(usable), waited_s=now - waiter.since, again=want is not None,
                demand=pack(waiter.demand, now),
            )  # fmt: skip

    def forgive(self, now: float) -> bool:
        """Let time pass; return whether slots may be asked for again that could not be lent."""
        forgiven = [endpoint for endpoint, until in self._away.items() if now >= until]
        for endpoint in forgiven:
            del self._away[endpoint]
            endpoint.lendable = True
        return bool(forgiven)

    # --- what the successor tells

    def lent(self, given: Given, now: float) -> Sequence[Event]:
        """Take a slot; it is for whoever is first here, and given back if that is nobody."""
        waiter = self._open.pop(given["ticket"], None)
        if waiter is not None:
            self._left_by = waiter.demand.caller
        endpoint = self._shared[given["address"]]
        endpoint.allot(endpoint.limit + 1)
        return self._pool.review(now)

    def displaced(self, given: Given, now: float) -> Sequence[Event]:
        """Take note that there is no slot to wait for: the successor knows better which endpoints are ready."""
        waiter = self._open.pop(given["ticket"], None)
        if waiter is None:
            return ()
        for address in self._wants[waiter].usable:
            endpoint = self._shared[address]
            endpoint.lendable = False
            self._away[endpoint] = now + AWAY_S
        return self._pool.review(now)

    def alone(self, given: Given, now: float) -> Sequence[Event]:
        """Keep all slots of endpoints that the successor does not know."""
        for address in given["addresses"]:
            self._shared.pop(address).allot(None, now)
        return self._pool.review(now)
