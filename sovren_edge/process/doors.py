"""Owns opening one listener by its kind, with its own pages before it.

Must not know how its parts are shared out to workers.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.acceptor import Acceptor, Entrance, Serve, accepting
from sovren_edge.application import Gate, Open, Refresh, serve_application
from sovren_edge.auth.networks import Networks
from sovren_edge.config.model import Config
from sovren_edge.config.resolved import PlannedListener
from sovren_edge.errors import StartupError
from sovren_edge.handler import Edge, Handler, Routes
from sovren_edge.handler.application import build_application
from sovren_edge.handler.guard import Observe, request_id
from sovren_edge.limits import Descriptors, Limits
from sovren_edge.listener import Check, OwnPages
from sovren_edge.observe.registry import Metrics, Source
from sovren_edge.observe.stats import ListenerStats
from sovren_edge.observe.tracing import current_trace_id
from sovren_edge.process.served_pools import ServedPools
from sovren_edge.process.services import Services
from sovren_edge.relay.downstream import Downstream
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.metrics import ListenerCollector, PoolsCollector, describe_pool
from sovren_edge.relay.relay import Door, MakeSupplier, Relay
from sovren_edge.relay.timeouts import KINDS as TIMEOUTS
from sovren_edge.speech.serving import Speaking
from sovren_edge.tls import Certificate

if TYPE_CHECKING:
    from sovren_edge.gateway.service import RunningGateway

METHODS = hdrs.METH_ALL


class Everything(Protocol):
    """What the whole program has to tell, beside this process; as of the last `refresh`."""

    async def refresh(self) -> None:
        """Ask the other processes."""

    def sources(self) -> Iterable[Source]:
        """Return their series."""

    def status(self) -> object:
        """Return the state of all pools, as JSON knows it."""


@dataclass(slots=True)
class Shared:
    """What the doors of one worker share; `stats` are what listeners count, by name.

    Nobody comes in before `opened` is set. While `unready`, /ready says that others are to be asked.
    """

    config: Config
    state_dir: Path
    relay: Relay
    served: ServedPools
    services: Services
    descriptors: Descriptors
    certificates: dict[str, Certificate]
    speaking: Speaking
    everything: Everything
    opened: asyncio.Event
    stats: dict[str, ListenerStats] = field(default_factory=dict)
    unready: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """One open door and what it shows; `door` or `gateway` is behind it, `inside` who is being answered."""

    acceptor: Acceptor
    stats: ListenerStats
    pages: OwnPages
    sources: tuple[Source, ...]
    door: Door | None = None
    gateway: "RunningGateway | None" = None
    inside: Open = field(default_factory=Open)


def open_door(
    listener: PlannedListener, listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[Opened]:
    """Serve one listener until the block ends; what it counts goes on where one of its name left off."""
    if listener.handler is not None:
        return _open_handler(listener, listener.handler, listening, shared)
    if listener.kind == "gateway":
        return _open_gateway(listener, listening, shared)
    if listener.kind == "balance" and listener.pool is not None:
        return _open_balance(listener, shared.served.tiers(listener.pool), listening, shared)
    if listener.pool is not None:
        return _open_pool_status(listener, shared.served.tiers(listener.pool).pools, listening, shared)
    return _open_status(listener, listening, shared)


def _stats(listener: PlannedListener, shared: Shared, *, speech: bool = False) -> ListenerStats:
    stats = shared.stats.get(listener.name)
    if stats is None:
        stats = shared.stats[listener.name] = ListenerStats(listener.name, listener.service, speech=speech)
        stats.timeouts.update(dict.fromkeys(TIMEOUTS, 0))
    return stats


def _open_balance(
    listener: PlannedListener, tiers: Tiers, listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[Opened]:
    speech = any(pool.settings.kind == "speech" for pool in tiers.pools)
    stats = _stats(listener, shared, speech=speech)
    pages = OwnPages(
        health=listener.health,
        checks=_checks(tiers.pools),
        sources=lambda: (own, _pools_source(tiers.pools, shared)),
        trusted=Networks(shared.config.edge.trusted),
        quorum=any,
        draining=lambda: shared.unready,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    return _open_relayed(listener, listening, shared, tiers=tiers, pages=pages, own=own, stats=stats)


def _open_pool_status(
    listener: PlannedListener, pools: tuple[Pool, ...], listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[Opened]:
    stats = _stats(listener, shared)

    def status() -> object:
        described = [describe_pool(pool, shared.relay.stats_of(pool)) for pool in pools]
        return {"service": listener.service, "pools": described}

    pages = OwnPages(
        health=listener.health,
        checks=_checks(pools),
        sources=lambda: (own, _pools_source(pools, shared)),
        trusted=Networks(shared.config.edge.trusted),
        status=status,
        alone=True,
        draining=lambda: shared.unready,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    return _open_relayed(listener, listening, shared, tiers=Tiers(()), pages=pages, own=own, stats=stats)


@asynccontextmanager
async def _open_status(listener: PlannedListener, listening: socket.socket, shared: Shared) -> AsyncIterator[Opened]:
    """Tell of the whole program: other processes are asked whenever somebody looks."""
    stats, everything = _stats(listener, shared), shared.everything
    pages = OwnPages(
        health=listener.health,
        checks={},
        sources=everything.sources,
        trusted=Networks(shared.config.edge.trusted),
        status=lambda: {"service": listener.service, "pools": everything.status()},
        alone=True,
        draining=lambda: shared.unready,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    app = web.Application()
    async with _serving(
        listener, app, listening, shared, pages=pages, sources=(own,), refresh=everything.refresh
    ) as opened:
        yield opened


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
) -> AsyncIterator[Opened]:
    relay = shared.relay
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
        yield Opened(acceptor, stats, pages, (own,), door)


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
        opened=shared.opened,
        tls=None if certificate is None else certificate.context,
        proxies=trusted if listener.settings.proxy_protocol else None,
    )


def _open_gateway(
    listener: PlannedListener, listening: socket.socket, shared: Shared
) -> AbstractAsyncContextManager[Opened]:
    # Only one worker needs it, and to load it is a third of its start.
    from sovren_edge.gateway.service import Gateway  # noqa: PLC0415

    gateway = Gateway(settings=shared.config.gateway, state_dir=shared.state_dir)
    return _open_handler(listener, gateway, listening, shared, run=gateway.run)


Run = Callable[[Edge], AbstractAsyncContextManager["RunningGateway"]]


@asynccontextmanager
async def _open_handler(
    listener: PlannedListener, handler: Handler, listening: socket.socket, shared: Shared, run: Run | None = None
) -> AsyncIterator[Opened]:
    services, metrics = shared.services, Metrics()
    stats = _stats(listener, shared)
    edge = services.edge(listener.name, metrics)
    if type(handler).migrations is not None and type(handler).needs_database:
        edge.depends("database", lambda: services.database_ready)
    pages = OwnPages(
        health=listener.health,
        checks=edge.checks,
        sources=lambda: (own, series),
        trusted=Networks(shared.config.edge.trusted),
        draining=lambda: shared.unready,
    )
    own = Source(ListenerCollector(stats, lambda: pages.ready))
    series = Source(metrics.registry, {"listener": listener.name})
    async with _opened(listener, handler, edge, run) as (routes, gateway):
        app = build_application(
            routes,
            title=listener.service or listener.name,
            version=version("sovren-edge"),
            description=type(handler).__doc__ or "",
            moved=type(handler).moved,
            body_limit=type(handler).body_limit,
            log=services.log.bind(listener=listener.name),
            observe=_observer(listener.name, stats, shared),
            tracer=None if (tracer := shared.relay.tracer) is None else tracer.at(listener.name),
        )
        async with _serving(
            listener,
            app,
            listening,
            shared,
            pages=pages,
            sources=(own, series),
            decompress=type(handler).decompress,
        ) as opened:
            yield replace(opened, gateway=gateway)


@asynccontextmanager
async def _serving(
    listener: PlannedListener,
    app: web.Application,
    listening: socket.socket,
    shared: Shared,
    *,
    pages: OwnPages,
    sources: tuple[Source, ...],
    decompress: bool = True,
    refresh: Refresh | None = None,
) -> AsyncIterator[Opened]:
    inside, stats = Open(), _stats(listener, shared)
    gate = Gate(pages, Networks(listener.settings.allow), inside, refresh)
    async with (
        serve_application(app, gate, decompress=decompress) as serve,
        accepting(_entrance(listener, listening, shared, stats, serve)) as acceptor,
    ):
        yield Opened(acceptor, stats, pages, sources, inside=inside)


@asynccontextmanager
async def _opened(
    listener: PlannedListener, handler: Handler, edge: Edge, run: Run | None
) -> AsyncIterator[tuple[Routes, "RunningGateway | None"]]:
    gateway: RunningGateway | None = None
    async with AsyncExitStack() as stack:
        try:
            if run is not None:
                gateway = await stack.enter_async_context(run(edge))
            routes = await stack.enter_async_context(handler.open(edge)) if gateway is None else gateway.routes
        except StartupError:
            raise
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            raise StartupError(f"the handler of the listener {listener.name} did not start: {fault}") from error
        yield routes, gateway


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
            "trace_id": current_trace_id(),
        })  # fmt: skip

    return observe
