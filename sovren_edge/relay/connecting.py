"""Owns making a new connection for one attempt, and telling what became of it.

Must not know what is sent on it, nor what is tried when it fails.
"""

from typing import TYPE_CHECKING, Protocol

from pools.admission import Lease
from pools.health import OURS
from sovren_edge.relay import timeouts

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Door, Relay
    from sovren_edge.relay.upstream import Upstream


class Connected(Protocol):
    """Whoever waits for a connection; it is told once."""

    def connected(self, upstream: "Upstream", lease: Lease) -> None:
        """Use a connection to the lease's endpoint."""

    def not_connected(self, lease: Lease, *, exhausted: bool) -> None:
        """Take note that there is none; `exhausted`: for want of something of ours; the endpoint is not to blame."""


async def connect(relay: "Relay", door: "Door", lease: Lease, waiting: Connected) -> None:
    """Connect to a lease's endpoint; what fails is counted, and its idle connections are no longer relied on."""
    try:
        upstream = await relay.connections.connect(lease.endpoint)
    except OSError as error:
        door.stats.timeouts[timeouts.CONNECT] += isinstance(error, TimeoutError)
        exhausted = error.errno in OURS
        if not exhausted:
            relay.connections.forget(lease.endpoint)
        waiting.not_connected(lease, exhausted=exhausted)
    else:
        waiting.connected(upstream, lease)
