"""Owns what becomes of a request on a port of speech: it is read, and shared, divided or simply fetched.

Must not know connections, nor how pools choose.
"""

from itertools import chain

from pools.demand import Demand
from sovren_edge.http.request import likeness
from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.fetch import Fetch, Taker
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.speech.coalesce import Flight, Seat
from sovren_edge.speech.reading import SPEECH_PATHS, Spoken, read_demand, read_speech
from sovren_edge.speech.scatter import Scatter
from sovren_edge.speech.sentences import FIRST_LEAST, divide


class Speaking:
    """Makes suppliers for all ports of speech of one worker; see relay.Door."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __call__(self, relay: Relay, door: Door, taker: Taker) -> Supplier:
        """Return where the answer to a request comes from."""
        request, body = taker.request, taker.request_body.whole
        spoken = read_speech(body)
        demand = read_demand(request, spoken, taker.caller.address.decode(), taker.started_at)
        if spoken is None or request.method != "POST" or not request.path.endswith(SPEECH_PATHS):
            return Fetch(relay, door, taker, demand)
        if not door.tiers.pools[0].settings.coalesce:
            return _supplier(relay, door, taker, spoken, demand)
        key = b"\0".join((door.tiers.key, likeness(request), body))
        flight = self._flights.get(key)
        if flight is not None and flight.supplier is not None:
            relay.stats_of(door.tiers.pools[0]).coalesced += 1
            return Seat(flight, taker, flight.supplier, first=False)
        flight = Flight(self._flights, key, taker)
        flight.supplier = supplier = _supplier(relay, door, flight, spoken, demand)
        return Seat(flight, taker, supplier, first=True)


def _supplier(relay: Relay, door: Door, taker: Taker, spoken: Spoken, demand: Demand) -> Supplier:
    """Return what speaks a text: in parts, where it can be divided and a pool may do so."""
    may_divide = any(pool.settings.interchangeable for pool in door.tiers.pools)
    if may_divide and spoken.divisible and len(spoken.text) > FIRST_LEAST:
        texts = divide(spoken.text, spoken.language)
        first, second = next(texts, None), next(texts, None)
        if first is not None and second is not None:
            return Scatter(relay, door, taker, demand=demand, spoken=spoken, texts=chain((first, second), texts))
    return Fetch(relay, door, taker, demand)
