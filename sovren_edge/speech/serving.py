"""Owns what becomes of a request on a port of speech: it is read, and remembered, shared, divided or simply fetched.

Must not know connections, nor how pools choose.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from math import inf

from pools.demand import Demand
from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.http.request import cache_control, likeness
from sovren_edge.http.response import ResponseHead
from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.coalesce import Flight, Seat
from sovren_edge.speech.keep import Keep, Memory
from sovren_edge.speech.reading import SPEECH_PATHS, Spoken, read_demand, read_speech
from sovren_edge.speech.scatter import Scatter
from sovren_edge.speech.sentences import FIRST_LEAST, divide
from sovren_edge.speech.whole import fetch_whole, may_serve

# What cannot be divided further than into so many characters is better spoken as a whole.
LONGEST_PART = 4096


class Speaking:
    """Makes suppliers for all ports of speech of one worker; see relay.Door."""

    def __init__(self, name: Callable[[bytes], str] | None = None) -> None:
        """`name` tells whom an Authorization field names, if anybody; without it, nobody is known by a token."""
        self._name = name
        # What each pool keeps, by the pool's name.
        self.keeps: dict[str, Keep] = {}
        self._flights: dict[bytes, Flight] = {}

    def __call__(self, relay: Relay, door: Door, taker: Taker) -> Supplier:
        """Return where the answer to a request comes from."""
        request, body = taker.request, taker.request_body.whole
        spoken = read_speech(body)
        demand = read_demand(request, spoken, taker.caller.address.decode(), taker.started_at)
        if self._name is not None and request.authorization and (named := self._name(request.authorization)):
            demand = demand._replace(caller=named)
        if spoken is None or request.method != "POST" or not request.path.endswith(SPEECH_PATHS):
            return Fetch(relay, door, taker, demand)
        door = self._door_for(door, spoken)
        first = door.tiers.pools[0]
        if not (first.settings.coalesce or first.settings.keep_bytes):
            return _supplier(relay, door, taker, spoken, demand)
        # Whoever waits with others must want to wait as they do.
        until = b"" if demand.deadline == inf else request.told.get(b"x-sovren-deadline-ms", b"")
        key = b"\0".join((door.tiers.key, likeness(request), b"%d" % demand.priority, until, body))
        told = cache_control(request) if first.settings.keep_bytes else b"no-store"
        keep = None if b"no-store" in told else self._keep(relay, first)
        if keep is not None and b"no-cache" not in told:
            kept = keep.find(key)
            if kept is not None:
                return Memory(kept, taker, relay.settings.idle_timeout_s)
        flight = self._flights.get(key)
        if flight is not None and flight.supplier is not None and first.settings.coalesce:
            relay.stats_of(first).coalesced += 1
            return Seat(flight, taker, flight.supplier, first=False)
        flight = Flight(self._flights, key, taker, relay.budget)
        flight.supplier = supplier = _supplier(relay, door, flight, spoken, demand)
        if keep is not None:
            flight.on_complete = _keeper(keep, key, supplier, first)
        return Seat(flight, taker, supplier, first=True)

    def _door_for(self, door: Door, spoken: Spoken) -> Door:
        """Return a door to those tiers that answer in the form that is asked for; to all, if none of them does."""
        pools = door.tiers.pools
        if not any(pool.settings.formats for pool in pools):
            return door
        fit = [pool for pool in pools if may_serve(pool.settings, spoken)]
        return replace(door, tiers=Tiers(fit)) if 0 < len(fit) < len(pools) else door

    def _keep(self, relay: Relay, pool: Pool) -> Keep:
        keep = self.keeps.get(pool.name)
        if keep is None:
            keep = self.keeps[pool.name] = Keep(pool.settings.keep_bytes, relay.stats_of(pool))
        return keep


def _keeper(
    keep: Keep, key: bytes, supplier: Fetch | Scatter, first: Pool
) -> Callable[[ResponseHead, list[bytes], float], None]:
    """Return what keeps an answer of the first tier; another one's is only better than none."""

    def put(head: ResponseHead, pieces: list[bytes], now: float) -> None:
        if supplier.pool is first:
            keep.put(key, head, pieces, now)

    return put


def _supplier(relay: Relay, door: Door, taker: Taker, spoken: Spoken, demand: Demand) -> Fetch | Scatter:
    """Return what speaks a text: in parts, where it can be divided and a pool may do so."""
    may_divide = any(pool.settings.interchangeable for pool in door.tiers.pools)
    if may_divide and spoken.divisible and len(spoken.text) > FIRST_LEAST:
        texts = divide(spoken.text, spoken.language)
        first, second = next(texts, None), next(texts, None)
        if first is not None and second is not None and len(second) <= LONGEST_PART:
            return Scatter(relay, door, taker, demand=demand, spoken=spoken, texts=chain((first, second), texts))
    return fetch_whole(relay, door, taker, demand, spoken)
