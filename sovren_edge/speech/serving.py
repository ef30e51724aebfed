"""Owns what becomes of a request on a port of speech: it is read, and remembered, shared, divided or simply fetched.

Must not know connections, nor how pools choose.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from itertools import chain
from math import inf

from pools.demand import Demand
from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.http.likeness import cache_control, likeness
from sovren_edge.http.response import ResponseHead
from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.coalesce import Flight, Seat
from sovren_edge.speech.keep import Keep, Memory
from sovren_edge.speech.reading import SPEECH_PATHS, Spoken, read_demand, read_speech
from sovren_edge.speech.scatter import Scatter
from sovren_edge.speech.sentences import divide, may_divide
from sovren_edge.speech.whole import fetch_whole, may_serve

# What cannot be divided further than into so many characters is better spoken as a whole.
LONGEST_PART = 4096


@dataclass(frozen=True, slots=True)
class Ways:
    """What the pools behind a door may do with a text; looked up once, and not for each request."""

    # Whether any of them answers only in some forms, is asked in other words than the caller's, divides texts; whether
    # equal requests share an answer, and whether answers are kept, as the first pool says.
    formats: bool
    rewrites: bool
    divides: bool
    shares: bool
    keeps: bool


class Speaking:
    """Makes suppliers for all ports of speech of one worker; see relay.Door."""

    def __init__(self, name: Callable[[bytes], str] | None = None) -> None:
        """`name` tells whom an Authorization field names, if anybody; without it, nobody is known by a token."""
        self._name = name
        # What each pool keeps, by the pool's name.
        self.keeps: dict[str, Keep] = {}
        self._flights: dict[Hashable, Flight] = {}
        self._ways: dict[bytes, Ways] = {}

    def __call__(self, relay: Relay, door: Door, taker: Taker) -> Supplier:
        """Return where the answer to a request comes from."""
        request, body = taker.request, taker.request_body.whole
        spoken = read_speech(body)
        demand = read_demand(request, spoken, taker.caller.name, taker.started_at)
        if self._name is not None and request.authorization and (named := self._name(request.authorization)):
            demand = demand._replace(caller=named)
        if spoken is None or request.method != "POST" or not request.path.endswith(SPEECH_PATHS):
            return Fetch(relay, door, taker, demand)
        tiers = door.tiers
        ways = self._ways.get(tiers.key) or self._find_ways(tiers)
        if ways.formats:
            door = _door_for(door, spoken)
            tiers = door.tiers
            ways = self._ways.get(tiers.key) or self._find_ways(tiers)
        if not (ways.shares or ways.keeps):
            return _supplier(relay, door, taker, spoken, demand, ways)
        asked, keep = likeness(request), None
        if ways.keeps and b"no-store" not in (told := cache_control(request)):
            keep, name = self._keep(relay, tiers.pools[0]), b"\0".join((tiers.key, asked, body))
            kept = keep.find(name) if b"no-cache" not in told else None
            if kept is not None:
                return Memory(kept, taker, relay.settings.idle_timeout_s)
        # Whoever waits with others must want to wait as they do.
        until = b"" if demand.deadline == inf else request.told.get(b"x-sovren-deadline-ms", b"")
        key = tiers.key, asked, body, demand.priority, until
        flight = self._flights.get(key)
        if flight is not None and flight.supplier is not None and ways.shares:
            relay.stats_of(tiers.pools[0]).coalesced += 1
            return Seat(flight, taker)
        flight = Flight(self._flights, key, taker, relay.budget, relay.settings.idle_timeout_s)
        flight.supplier = supplier = _supplier(relay, door, flight, spoken, demand, ways)
        if keep is not None:
            flight.on_complete = _keeper(keep, name, supplier, tiers.pools[0])
        return flight

    def _find_ways(self, tiers: Tiers) -> Ways:
        of_pools = [pool.settings for pool in tiers.pools]
        ways = self._ways[tiers.key] = Ways(
            formats=any(settings.formats for settings in of_pools),
            rewrites=any(settings.formats or settings.models or settings.voices for settings in of_pools),
            divides=any(settings.interchangeable for settings in of_pools),
            shares=of_pools[0].coalesce,
            keeps=of_pools[0].keep_bytes > 0,
        )
        return ways

    def _keep(self, relay: Relay, pool: Pool) -> Keep:
        keep = self.keeps.get(pool.name)
        if keep is None:
            keep = self.keeps[pool.name] = Keep(pool.settings.keep_bytes, relay.stats_of(pool))
        return keep


def _door_for(door: Door, spoken: Spoken) -> Door:
    """Return a door to those tiers that answer in the form that is asked for; to all, if none of them does."""
    pools = door.tiers.pools
    fit = [pool for pool in pools if may_serve(pool.settings, spoken)]
    return replace(door, tiers=Tiers(fit)) if 0 < len(fit) < len(pools) else door


def _keeper(
    keep: Keep, key: bytes, supplier: Fetch | Scatter, first: Pool
) -> Callable[[ResponseHead, list[bytes], float], None]:
    """Return what keeps an answer of the first tier; another one's is only better than none."""

    def put(head: ResponseHead, pieces: list[bytes], now: float) -> None:
        if supplier.pool is first:
            keep.put(key, head, pieces, now)

    return put


def _supplier(  # noqa: PLR0917 - on the hot path, keywords cost
    relay: Relay, door: Door, taker: Taker, spoken: Spoken, demand: Demand, ways: Ways
) -> Fetch | Scatter:
    """Return what speaks a text: in parts, where it can be divided and a pool may do so."""
    if ways.divides and may_divide(spoken.text) and spoken.divisible:
        texts = divide(spoken.text, spoken.language)
        first, second = next(texts, None), next(texts, None)
        if first is not None and second is not None and len(second) <= LONGEST_PART:
            return Scatter(relay, door, taker, demand=demand, spoken=spoken, texts=chain((first, second), texts))
    return fetch_whole(relay, door, taker, demand, spoken) if ways.rewrites else Fetch(relay, door, taker, demand)
