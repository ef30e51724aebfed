"""Owns the port map: one row for every port that the configuration speaks of.

Must not know how a row is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sovren_edge.config.address import Address
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
    """Return all listeners, upstreams and services, by port and node."""
    rows = [*_listener_rows(config, scope), *_upstream_rows(config, scope), *_service_rows(config, scope)]
    return tuple(sorted(rows, key=lambda row: (row.port, row.node, row.name)))


def _listener_rows(config: Config, scope: Scope) -> Iterator[MapRow]:
    for name, listener in config.listeners.items():
        node = listener.node or ""
        yield MapRow(scope.port(listener), node, listener.kind, name, _target(listener), scope.state(listener))


def _upstream_rows(config: Config, scope: Scope) -> Iterator[MapRow]:
    for name, pool in config.pools.items():
        for place, endpoint in enumerate(pool.endpoints):
            address, state = scope.upstream(pool, endpoint)
            yield MapRow(address.port, _host(config, address), "upstream", endpoint_name(name, place), name, state)


def _service_rows(config: Config, scope: Scope) -> Iterator[MapRow]:
    for one in scope.services(config.services):
        yield MapRow(one.address.port, _host(config, one.address), "service", one.name, "", one.state)


def _host(config: Config, address: Address) -> str:
    return next((node for node, known in config.nodes.items() if known == address.host), address.host)


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
