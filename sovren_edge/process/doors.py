"""Owns opening one listener by its kind, with its own pages before it.

Must not know how its parts are shared out to workers.
"""

import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from aiohttp import hdrs, web

from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.acceptor import Acceptor, Entrance, Serve, accepting
from sovren_edge.application import Gate, Open, serve_application
from sovren_edge.auth.networks import Networks
from sovren_edge.config.model import Config
from sovren_edge.config.resolved import PlannedListener
from sovren_edge.errors import StartupError
from sovren_edge.gateway.service import Gateway
from sovren_edge.handler import Edge, Handler, Routes
from sovren_edge.handler.application import build_application
from sovren_edge.handler.guard import Observe, request_id
from sovren_edge.limits import Descriptors, Limits
from sovren_edge.listener import Check, OwnPages
from sovren_edge.observe.registry import Metrics, Source
from sovren_edge.observe.stats import ListenerStats
from sovren_edge.process.services import Services
from sovren_edge.relay.downstream import Downstream
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.metrics import ListenerCollector, PoolsCollector, describe_pool
from sovren_edge.relay.relay import Door, MakeSupplier, Relay
from sovren_edge.relay.timeouts import KINDS as TIMEOUTS
from sovren_edge.speech.serving import Speaking
from sovren_edge.tls import Certificate

METHODS = hdrs.METH_ALL


@dataclass(slots=True)
class Shared:
    """What the doors of one worker share; `sources` are every listener's series, for the port that shows all."""

    config: Config
    state_dir: Path
    relay: Relay
    pools: Mapping[str, Pool]
    tiers_of: Callable[[str], Tiers]
    services: Services
    descriptors: Descriptors
    certificates: Mapping[str, Certificate]
    speaking: Speaking
    sources: list[Source] = field(default_factory=list)
    acceptors: list[Acceptor] = field(default_factory=list)
    open_requests: Open = field(default_factory=Open)


def open_door(listener: PlannedListener, listening: socket.socket, shared: Shared) -> AbstractAsyncContextManager[None]:
    """Serve one listener until the block ends."""
    if listener.handler is not None:
        return _open_handler(listener, listener.handler, listening, shared)
    if listener.kind == "gateway":
        gateway = Gateway(settings=shared.config.gateway, state_dir=shared.state_dir)
        return _open_handler(listener, gateway, listening, shared)
    if listener.kind == "balance" and listener.pool is not None:
        return _open_balance(listener, shared.tiers_of(listener.pool), listening, shared)
    return _open_status(listener, listening, shared)


def _open_balance(
    listener: PlannedListener, tiers: Tiers, listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[None]:
    speech = any(pool.settings.kind == "speech" for pool in tiers.pools)
    stats = ListenerStats(listener.name, listener.service, speech=speech)
    pages = OwnPages(
        health=listener.health,
        checks=_checks(tiers.pools),
        sources=lambda: (own, _pools_source(tiers.pools, shared)),
        trusted=Networks(shared.config.edge.trusted),
        quorum=any,
        draining=lambda: shared.relay.draining,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    return _open_relayed(listener, listening, shared, tiers=tiers, pages=pages, own=own, stats=stats)


def _open_status(
    listener: PlannedListener, listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[None]:
    pools = shared.tiers_of(listener.pool).pools if listener.pool else tuple(shared.pools.values())
    stats = ListenerStats(listener.name, listener.service)

    def status() -> object:
        described = [describe_pool(pool, shared.relay.stats_of(pool)) for pool in pools]
        return {"service": listener.service, "pools": described}

    def sources() -> Iterable[Source]:
        everything = () if listener.pool else (Source(shared.services.writer), *shared.sources)
        return (own, _pools_source(pools, shared), *(source for source in everything if source is not own))

    pages = OwnPages(
        health=listener.health,
        checks=_checks(pools) if listener.pool else {},
        sources=sources,
        trusted=Networks(shared.config.edge.trusted),
        status=status,
        alone=True,
        draining=lambda: shared.relay.draining,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    return _open_relayed(listener, listening, shared, tiers=Tiers(()), pages=pages, own=own, stats=stats)


def _checks(pools: Iterable[Pool]) -> dict[str, Check]:
    return {pool.name: partial(getattr, pool, "ready") for pool in pools}


def _pools_source(pools: Iterable[Pool], shared: Shared) -> Source:
    return Source(PoolsCollector(tuple(pools), shared.relay.stats_of))


@asynccontextmanager
async def _open_relayed(
    listener: PlannedListener,
    listening: socket.socket,
    shared: Shared,
    *,
    tiers: Tiers,
    pages: OwnPages,
    own: Source,
    stats: ListenerStats,
) -> AsyncIterator[None]:
    relay = shared.relay
    stats.timeouts.update(dict.fromkeys(TIMEOUTS, 0))
    shared.sources.append(own)
    allow, trusted = Networks(listener.settings.allow), Networks(shared.config.edge.trusted)
    scheme = b"http" if listener.settings.tls is None else b"https"
    door = Door(
        listener.name,
        tiers,
        pages,
        allow,
        trusted,
        stats,
        alone=not tiers.pools,
        scheme=scheme,
        supplier=_supplier(tiers, shared.speaking),
        reads_ahead=stats.speech,
        explains=shared.config.edge.debug,
    )
    entrance = _entrance(listener, listening, shared, stats, partial(Downstream, relay, door))
    async with accepting(entrance) as acceptor:
        shared.acceptors.append(acceptor)
        yield


def _supplier(tiers: Tiers, speaking: Speaking) -> MakeSupplier:
    """Return what supplies answers: with a mind for speech where a pool has one."""
    return speaking if any(pool.settings.kind == "speech" for pool in tiers.pools) else Fetch


def _entrance(
    listener: PlannedListener, listening: socket.socket, shared: Shared, stats: ListenerStats, serve: Serve
) -> Entrance:
    edge, trusted = shared.config.edge, Networks(shared.config.edge.trusted)
    certificate = shared.certificates.get(listener.name)
    if certificate is not None:
        stats.certificate = lambda: (certificate.days_left(datetime.now(UTC)), certificate.failures)
    return Entrance(
        listening,
        serve,
        stats,
        Limits(edge.connections, edge.connections_per_address, trusted, stats),
        shared.descriptors,
        patience_s=shared.config.relay.head_timeout_s,
        tls=None if certificate is None else certificate.context,
        proxies=trusted if listener.settings.proxy_protocol else None,
    )


@asynccontextmanager
async def _open_handler(
    listener: PlannedListener, handler: Handler, listening: socket.socket, shared: Shared
) -> AsyncIterator[None]:
    services, metrics = shared.services, Metrics()
    stats = ListenerStats(listener.name, listener.service)
    edge = services.edge(listener.name, metrics)
    if type(handler).migrations is not None and type(handler).needs_database:
        edge.depends("database", lambda: services.database_ready)
    pages = OwnPages(
        health=listener.health,
        checks=edge.checks,
        sources=lambda: (own, series),
        trusted=Networks(shared.config.edge.trusted),
        draining=lambda: shared.relay.draining,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    series = Source(metrics.registry, {"listener": listener.name})
    shared.sources += (own, series)
    async with _opened(listener, handler, edge) as routes:
        app = build_application(
            routes,
            title=listener.service or listener.name,
            version=version("sovren-edge"),
            description=type(handler).__doc__ or "",
            moved=type(handler).moved,
            body_limit=type(handler).body_limit,
            log=services.log.bind(listener=listener.name),
            observe=_observer(listener.name, stats, shared),
        )
        async with (
            serve_application(
                app,
                Gate(pages, Networks(listener.settings.allow), shared.open_requests),
                decompress=type(handler).decompress,
            ) as serve,
            accepting(_entrance(listener, listening, shared, stats, serve)) as acceptor,
        ):
            shared.acceptors.append(acceptor)
            yield


@asynccontextmanager
async def _opened(listener: PlannedListener, handler: Handler, edge: Edge) -> AsyncIterator[Routes]:
    async with AsyncExitStack() as stack:
        try:
            routes = await stack.enter_async_context(handler.open(edge))
        except StartupError:
            raise
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            raise StartupError(f"the handler of the listener {listener.name} did not start: {fault}") from error
        yield routes


def _observer(listener: str, stats: ListenerStats, shared: Shared) -> Observe:
    def observe(request: web.Request, template: str, status: int, seconds: float) -> None:
        method = request.method if request.method in METHODS else "other"
        stats.count(method, status, seconds)
        if not shared.config.log.access:
            return
        taken_us = int(seconds * 1e6)
        shared.services.writer.put({
            "timestamp": shared.relay.journal.timestamp(), "event": "request", "listener": listener,
            "client": request.remote or "", "method": method, "path": template or "-", "status": status,
            "request_id": request_id(request), "endpoint": "", "attempts": 0, "queue_us": 0, "ttfb_us": taken_us,
            "duration_us": taken_us, "received": request.content_length or 0, "sent": 0, "ended": "complete",
        })  # fmt: skip

    return observe
