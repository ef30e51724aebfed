"""Owns what becomes of a request on a port of speech: it is read, and one fetch or several answer it.

Must not know connections, nor how pools choose.
"""

from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.fetch import Fetch, Taker
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.speech.reading import read_demand


def serve_speech(relay: Relay, door: Door, taker: Taker) -> Supplier:
    """Return where the answer to a request comes from; see relay.Door."""
    demand = read_demand(taker.request, taker.request_body.whole, taker.caller.address.decode(), taker.started_at)
    return Fetch(relay, door, taker, demand)
