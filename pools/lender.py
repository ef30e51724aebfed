"""Owns the new process's side of a pool that two processes share: what its predecessor holds, and who waits there.

Must not know how waiters there are told; see handover.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from pools.admission import Event, Lease, Outcome, Waiter
from pools.demand import Demand
from pools.endpoint import Endpoint
from pools.handover import Given, Holding, Tell, unpack

if TYPE_CHECKING:
    from pools.pool import Pool


@dataclass(frozen=True, slots=True)
class Borrower:
    """Waits here for somebody in the predecessor, which says for how long; see relay.Owner."""

    lender: "Lender"
    ticket: int

    def granted(self, lease: Lease) -> None:
        """Lend a slot."""
        self.lender.lend(self.ticket, lease)

    def displaced(self) -> None:
        """Tell that no endpoint is ready that could be used."""
        self.lender.displace(self.ticket)


class Lender:
    """What a pool that has a predecessor shares with it."""

    def __init__(self, pool: "Pool", tell: Tell) -> None:
        self._pool = pool
        self._tell = tell
        self._held: defaultdict[str, list[Lease]] = defaultdict(list)
        self._waiters: dict[int, Waiter] = {}
        # Addresses that were not known here: their slots are the predecessor's, until its end also of who joins later.
        self._alone: frozenset[str] = frozenset()

    def lend(self, ticket: int, lease: Lease) -> None:
        """Let the predecessor have a slot, until it gives it back."""
        del self._waiters[ticket]
        address = lease.endpoint.address.decode()
        self._held[address].append(lease)
        self._tell("lent", ticket=ticket, address=address)

    def displace(self, ticket: int) -> None:
        """Let somebody in the predecessor look for another tier."""
        del self._waiters[ticket]
        self._tell("displaced", ticket=ticket)

    def joined(self, endpoint: Endpoint) -> None:
        """Take note of a further endpoint: of those who wait nobody has asked for it."""
        if endpoint.address.decode() in self._alone:
            endpoint.allot(0)
        for waiter in self._waiters.values():
            waiter.tried |= {endpoint}

    # --- what the predecessor tells

    def hold(self, given: Given, now: float) -> Sequence[Event]:
        """Count the leases that are held, by address; more of them than slots only keep others waiting."""
        self._pool.lender = self
        held: Mapping[str, Sequence[Holding]] = given["leases"]
        endpoints = {endpoint.address.decode(): endpoint for endpoint in self._pool.endpoints}
        for address in held.keys() & endpoints.keys():
            self._held[address] = [
                self._pool.hold(endpoints[address], Demand(caller=one["caller"]), now, one["left_s"])
                for one in held[address]
            ]
        self._alone = frozenset(held.keys() - endpoints.keys())
        if self._alone:
            self._tell("alone", addresses=sorted(self._alone))
        return ()

    def returned(self, given: Given, now: float) -> Sequence[Event]:
        """Take back a slot that somebody has left, and hand it on."""
        leases = self._held[given["address"]]
        if not leases:
            return ()  # it was given up by who did not know yet that it is not shared
        lease = next((lease for lease in leases if lease.demand.caller == given["caller"]), leases[0])
        leases.remove(lease)
        return self._pool.release(lease, Outcome.LEFT, now)

    def wanted(self, given: Given, now: float) -> Sequence[Event]:
        """Let somebody wait, who has waited there before; who wants it `again` is not counted once more."""
        ticket, usable = given["ticket"], given["usable"]
        tried = frozenset(one for one in self._pool.endpoints if one.address.decode() not in usable)
        since, demand = now - given["waited_s"], unpack(given["demand"], now)
        waiter = self._waiters[ticket] = Waiter(self._pool, Borrower(self, ticket), since, tried, inf, demand)
        return self._pool.wait(waiter, now, again=given["again"])

    def unwanted(self, given: Given, _now: float) -> Sequence[Event]:
        """Let somebody leave, unless a slot is on its way already."""
        waiter = self._waiters.pop(given["ticket"], None)
        if waiter is not None:
            self._pool.leave(waiter)
        return ()

    def end(self, now: float) -> Sequence[Event]:
        """Take all slots back: the predecessor is gone."""
        self._pool.lender = None
        for waiter in self._waiters.values():
            self._pool.leave(waiter)
        leases = [lease for held in self._held.values() for lease in held]
        events = [event for lease in leases for event in self._pool.release(lease, Outcome.LEFT, now)]
        if self._alone and self._pool.retired is None:
            for endpoint in self._pool.endpoints:
                endpoint.allot(None, now)
            events += self._pool.review(now)
        return events
