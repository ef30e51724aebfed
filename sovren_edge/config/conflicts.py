"""Owns what may be wrong with a plan though its file is sound: ports that leave the range, or meet on one machine.

Must not know nodes: two of them may use one port, until `--local` brings them together.
"""

from collections.abc import Iterable, Iterator

from sovren_edge.config.address import MAX_PORT, is_loopback
from sovren_edge.config.fault import Fault
from sovren_edge.config.resolved import PlannedEngine, PlannedListener, ResolvedPool


def conflicts(
    listeners: tuple[PlannedListener, ...], pools: Iterable[ResolvedPool], engines: tuple[PlannedEngine, ...]
) -> Iterator[Fault]:
    """Yield what keeps a plan from being opened."""
    if not listeners:
        yield Fault("listeners", "no listener to open", "at least one that is not planned")
    yield from _range_faults(listeners, engines)
    yield from _clashes(listeners, engines)
    yield from _loops(listeners, pools, engines)


def _range_faults(listeners: Iterable[PlannedListener], engines: Iterable[PlannedEngine]) -> Iterator[Fault]:
    for path, port in _taken(listeners, engines):
        if not 1 <= port <= MAX_PORT:
            yield Fault(path, str(port), f"a port from 1 to {MAX_PORT}", "choose another --port-offset")


def _clashes(listeners: Iterable[PlannedListener], engines: Iterable[PlannedEngine]) -> Iterator[Fault]:
    first: dict[int, str] = {}
    for path, port in _taken(listeners, engines):
        if (other := first.setdefault(port, path)) != path:
            yield Fault(path, str(port), "a port of its own", f"{other} is the same on this machine")


def _loops(
    listeners: Iterable[PlannedListener], pools: Iterable[ResolvedPool], engines: Iterable[PlannedEngine]
) -> Iterator[Fault]:
    """Endpoints on loopback may become ours when ports are moved, or when other nodes' listeners join them."""
    doors = {listener.port: listener.name for listener in listeners}
    local = {engine.name for engine in engines}
    for pool in pools:
        for place, endpoint in enumerate(pool.endpoints):
            if is_loopback(endpoint.host) and endpoint.port in doors and endpoint.name not in local:
                path, hint = f"pools.{pool.name}.endpoints.{place}", f"listeners.{doors[endpoint.port]} listens there"
                yield Fault(path, f'"{pool.settings.endpoints[place]}"', "an address that is not the edge's own", hint)


def _taken(listeners: Iterable[PlannedListener], engines: Iterable[PlannedEngine]) -> Iterator[tuple[str, int]]:
    yield from ((f"listeners.{listener.name}.port", listener.port) for listener in listeners)
    yield from ((f"engine {engine.name}", engine.port) for engine in engines)
