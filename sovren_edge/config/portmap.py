"""Owns the port map: one row for every port that the configuration speaks of.

Must not know how a row is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sovren_edge.config.model import BalanceListener, Config, HandlerListener, Listener, StatusListener
from sovren_edge.config.scope import Scope, State, endpoint_name


@dataclass(frozen=True, slots=True)
class MapRow:
    """A port, whose it is, and how this call stands to it; `node` is an address for machines that are no node."""

    port: int
    node: str
    kind: str
    name: str
    target: str
    state: State


def port_map(config: Config, scope: Scope) -> tuple[MapRow, ...]:
    """Return all listeners and upstreams, by port and node."""
    rows = [*_listener_rows(config, scope), *_upstream_rows(config, scope)]
    return tuple(sorted(rows, key=lambda row: (row.port, row.node, row.name)))


def _listener_rows(config: Config, scope: Scope) -> Iterator[MapRow]:
    for name, listener in config.listeners.items():
        node = listener.node or ""
        yield MapRow(scope.port(listener), node, listener.kind, name, _target(listener), scope.state(listener))


def _upstream_rows(config: Config, scope: Scope) -> Iterator[MapRow]:
    node_of = {address: node for node, address in config.nodes.items()}
    for name, pool in config.pools.items():
        for place, endpoint in enumerate(pool.endpoints):
            address, state = scope.upstream(pool, endpoint)
            host = node_of.get(address.host, address.host)
            yield MapRow(address.port, host, "upstream", endpoint_name(name, place), name, state)


def _target(listener: Listener) -> str:
    match listener:
        case BalanceListener():
            return listener.pool
        case StatusListener():
            return listener.pool or ""
        case HandlerListener():
            return listener.handler
        case _:
            return ""
