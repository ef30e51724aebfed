"""Owns what one call of the program makes of a configuration: what it opens, over which addresses.

Must not know how anything is opened, nor read the configuration's file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pools.settings import PoolSettings
from sovren_edge.config.address import LOOPBACK
from sovren_edge.config.conflicts import conflicts
from sovren_edge.config.fault import ConfigurationError, Fault, nearest, one_of
from sovren_edge.config.model import BalanceListener, Config, StatusListener
from sovren_edge.config.portmap import MapRow, port_map
from sovren_edge.config.resolved import PlannedEngine, PlannedListener, ResolvedEndpoint, ResolvedPool
from sovren_edge.config.scope import Scope, State, endpoint_name
from sovren_edge.config.sketch import flatten


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call opens; `engines` are what the local stack runs, `services` the URLs of what no listener serves."""

    node: str | None
    local: bool
    listeners: tuple[PlannedListener, ...]
    pools: Mapping[str, ResolvedPool]
    engines: tuple[PlannedEngine, ...]
    services: Mapping[str, str]
    map: tuple[MapRow, ...]


def make_plan(
    config: Config, node: str | None = None, *, local: bool = False, port_offset: int = 0, llm: bool = False
) -> Plan:
    """Return what `--node`, `--local` (also with `--llm`) or neither opens; ConfigurationError carries every fault."""
    _check_choice(config, node, local=local)
    scope = Scope(config.nodes, node, local, port_offset, llm)
    listeners = tuple(_listeners(config, scope))
    pools = _pools(config, scope, listeners)
    engines = tuple(_engines(config, scope))
    _raise(scope, list(conflicts(listeners, pools.values(), engines)))
    services = {one.name: one.url for one in scope.services(config.services) if one.state is not State.ABSENT}
    return Plan(node, local, listeners, pools, engines, services, port_map(config, scope))


def health_body(service: str) -> bytes:
    """Return the exact body of `/health`; a service without a name is left out of it."""
    members = {"status": "ok", "service": service} if service else {"status": "ok"}
    return json.dumps(members, separators=(",", ":")).encode()


def _check_choice(config: Config, node: str | None, *, local: bool) -> None:
    known = one_of(config.nodes)
    if node is not None and node not in config.nodes:
        fault = Fault("--node", node, known, nearest(node, config.nodes))
        raise ConfigurationError("the command line", [fault])
    if node is None and not local and len(config.nodes) > 1:
        fault = Fault("--node", "nothing", f"one node ({known}), or --local for all of them on loopback")
        raise ConfigurationError("the command line", [fault])


def _listeners(config: Config, scope: Scope) -> Iterator[PlannedListener]:
    for name, listener in config.listeners.items():
        if scope.state(listener) is State.SERVE:
            service = name if listener.service is None else listener.service
            yield PlannedListener(
                name=name,
                kind=listener.kind,
                service=service,
                health=health_body(service),
                bind=LOOPBACK if scope.local else config.edge.bind,
                port=scope.port(listener),
                pool=listener.pool if isinstance(listener, BalanceListener | StatusListener) else None,
                settings=listener,
                handler=config.handlers.get(name),
            )


def _pools(config: Config, scope: Scope, listeners: Iterable[PlannedListener]) -> dict[str, ResolvedPool]:
    """Resolve the pools that listeners name, and those with endpoints that they come down to."""
    tiers = {name: pool.tiers for name, pool in config.pools.items()}
    pools: dict[str, ResolvedPool] = {}
    for named in (listener.pool for listener in listeners if listener.pool is not None):
        for name in (named, *flatten(named, tiers)):
            settings = config.pools[name]
            endpoints = tuple(_endpoints(scope, name, settings))
            pools[name] = ResolvedPool(name, settings, endpoints, flatten(name, tiers) if settings.tiers else ())
    return pools


def _endpoints(scope: Scope, name: str, pool: PoolSettings) -> Iterator[ResolvedEndpoint]:
    for place, text in enumerate(pool.endpoints):
        address, state = scope.upstream(pool, text)
        yield ResolvedEndpoint(endpoint_name(name, place), address.host, address.port, state is State.ABSENT)


def _engines(config: Config, scope: Scope) -> Iterator[PlannedEngine]:
    for name, pool in config.pools.items():
        for place, text in enumerate(pool.endpoints):
            address, state = scope.upstream(pool, text)
            if state is State.LOCAL:
                yield PlannedEngine(endpoint_name(name, place), address.port)
    # The last in turn: speech is heard first.
    for service in scope.services(config.services):
        if service.state is State.LOCAL:
            yield PlannedEngine(f"{service.name}-model", service.address.port, "chat")


def _raise(scope: Scope, faults: list[Fault]) -> None:
    if faults:
        asked = "--local" if scope.local else f"--node {scope.node}" if scope.node else "the plan"
        raise ConfigurationError(asked, faults)
