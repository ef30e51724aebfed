"""Owns what of the whole map one call of the program concerns: one node's part, or all of it on loopback.

Must not know listeners' kinds, nor what is done with an address.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pools.settings import PoolSettings
from sovren_edge.config.address import LOOPBACK, Address, is_loopback, parse_endpoint, parse_service
from sovren_edge.config.model import Listener

# The service that --llm brings a model of its own for, and that model's port.
CHAT = "chat"
CHAT_PORT = 8110


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
    """One node's part of the map, or everybody's where `node` is `None`; ports it opens are moved by `port_offset`.

    With `llm` the local stack has a chat model.
    """

    nodes: Mapping[str, str]
    node: str | None
    local: bool
    port_offset: int
    llm: bool = False

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
        return address, self._foreign(address)

    def services(self, configured: Mapping[str, str]) -> Iterator["Service"]:
        """Yield the services that no listener serves, as this call finds them; with `llm` one of them is its own."""
        for name, url in configured.items():
            if not (self.llm and name == CHAT):
                address = parse_service(url)
                yield Service(name, url, address, self._foreign(address))
        if self.llm:
            address = Address(LOOPBACK, CHAT_PORT + self.port_offset)
            yield Service(CHAT, f"http://{address}", address, State.LOCAL)

    def _foreign(self, address: Address) -> State:
        """Tell how this call stands to what is not ours."""
        return State.ABSENT if self.local and not is_loopback(address.host) else State.EXTERNAL


@dataclass(frozen=True, slots=True)
class Service:
    """A service that no listener serves: where it is, and how a call stands to it."""

    name: str
    url: str
    address: Address
    state: State


def endpoint_name(pool: str, place: int) -> str:
    """Return the name of a pool's endpoint, counted from `01`."""
    return f"{pool}-{place + 1:02d}"
