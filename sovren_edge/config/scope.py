"""Owns what of the whole map one call of the program concerns: one node's part, or all of it on loopback.

Must not know listeners' kinds, nor what is done with an address.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pools.settings import PoolSettings
from sovren_edge.config.address import LOOPBACK, Address, is_loopback, parse_endpoint
from sovren_edge.config.model import Listener


class State(StrEnum):
    """How a call stands to a port of the map."""

    SERVE = "serve"
    PLANNED = "planned"
    ELSEWHERE = "elsewhere"
    EXTERNAL = "external"
    LOCAL = "local"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Scope:
    """One node's part of the map, or everybody's where `node` is `None`; ports it opens are moved by `port_offset`."""

    nodes: Mapping[str, str]
    node: str | None
    local: bool
    port_offset: int

    def state(self, listener: Listener) -> State:
        """Tell whether this call opens a listener, and why not."""
        if listener.planned:
            return State.PLANNED
        return State.SERVE if self.local or self.node in {None, listener.node} else State.ELSEWHERE

    def port(self, listener: Listener) -> int:
        """Return a listener's port, moved if this call opens it."""
        return listener.port + self.port_offset * (self.state(listener) is State.SERVE)

    def upstream(self, pool: PoolSettings, endpoint: str) -> tuple[Address, State]:
        """Return an endpoint's address for this call, and whose it is; with `local` nothing leaves loopback."""
        address = parse_endpoint(endpoint, self.nodes)
        if self.local and pool.local:
            return Address(LOOPBACK, address.port + self.port_offset), State.LOCAL
        if self.local and not is_loopback(address.host):
            return address, State.ABSENT
        return address, State.EXTERNAL


def endpoint_name(pool: str, place: int) -> str:
    """Return the name of a pool's endpoint, counted from `01`."""
    return f"{pool}-{place + 1:02d}"
