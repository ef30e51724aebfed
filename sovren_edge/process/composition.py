"""Owns what a worker is made of: pools, the relay and its doors, handlers, probes; composed here and nowhere else.

Must not know processes, the binding of sockets or the local stack.
"""

import asyncio
import random
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from structlog.typing import FilteringBoundLogger

from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.probe import open_client, watch
from pools.tiers import Tiers
from sovren_edge.auth.callers import Callers
from sovren_edge.config.model import Config
from sovren_edge.config.plan import Plan
from sovren_edge.config.resolved import ResolvedPool
from sovren_edge.limits import Descriptors, most_callers
from sovren_edge.observe.log import LogWriter, Timestamps
from sovren_edge.process.certificates import load_certificates, upstream_context, watch_certificates
from sovren_edge.process.doors import Everything, Shared
from sovren_edge.process.draining import drained
from sovren_edge.process.following import Following
from sovren_edge.process.openings import Openings
from sovren_edge.process.parts import Part
from sovren_edge.process.services import open_services
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.relay import Relay
from sovren_edge.speech.keep import Keep
from sovren_edge.speech.serving import Speaking


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker serves; nobody comes in before `let_in`."""

    relay: Relay
    pools: Mapping[str, Pool]
    shared: Shared
    openings: Openings

    @property
    def keeps(self) -> Mapping[str, Keep]:
        """The answers that pools keep, by the pool's name."""
        return self.shared.speaking.keeps

    def let_in(self) -> None:
        """Accept connections from now on."""
        self.shared.opened.set()

    def refuse_readiness(self) -> None:
        """Have /ready say that others are to be asked from now on; everything else goes on."""
        self.shared.unready = True

    async def drain(self, drain_s: float, *, leave_backlog: bool) -> int:
        """Stop accepting, let open requests finish, and cut what is left after `drain_s`; return how many were cut.

        Who waits in the system's backlog is still served, unless it is left to another process.
        """
        self.refuse_readiness()
        for acceptor in self.shared.acceptors.values():
            acceptor.close(leave_backlog=leave_backlog)
        self.relay.draining = True
        for inside in self.shared.open_requests.values():
            inside.closing = True
        descriptors = self.shared.descriptors
        cut = await drained(lambda: self.busy, lambda: descriptors.open, self.relay.close_idle, drain_s)
        self.relay.close()
        return cut

    @property
    def probed(self) -> bool:
        """Whether every pool's first round of probes is over."""
        return all(pool.probed for pool in self.pools.values())

    @property
    def busy(self) -> int:
        """Requests that are being served."""
        inside = sum(one.count for one in self.shared.open_requests.values())
        return sum(downstream.busy for downstream in self.relay.downstreams) + inside


@asynccontextmanager
async def open_worker(
    part: Part,
    sockets: Mapping[str, socket.socket],
    everything: Everything,
    *,
    log: FilteringBoundLogger,
    writer: LogWriter,
) -> AsyncIterator[Worker]:
    """Have everything ready to serve every listener of a part, on its bound socket, until the block ends."""
    plan, config = part.plan, part.config
    pools = _make_pools(plan)
    certificates = load_certificates(plan.listeners)
    async with asyncio.TaskGroup() as group:
        relay = _make_relay(config, log, writer, group.create_task)
        for pool in pools.values():
            relay.stats_of(pool)
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(part, log, writer))
            tokens = services.tokens
            shared = Shared(
                config=config,
                state_dir=part.state_dir,
                relay=relay,
                pools=pools,
                tiers_of=partial(_tiers, plan, pools),
                services=services,
                descriptors=_descriptors(config, pools, log),
                certificates=certificates,
                speaking=Speaking(None if tokens is None else Callers(tokens, time.time, group.create_task).name),
                everything=everything,
                opened=asyncio.Event(),
            )
            openings = Openings(shared, group)
            stack.push_async_callback(openings.close_all)
            for listener in plan.listeners:
                await openings.open(listener, sockets[listener.name])
            probes = await stack.enter_async_context(open_client())
            tasks = [group.create_task(watch(pool, probes, relay.observe)) for pool in pools.values()]
            for pool in pools.values():
                if pool.settings.dns is not None and not plan.local:
                    following = Following(relay, probes, group.create_task, log, _tls(plan.pools[pool.name]))
                    tasks.append(group.create_task(following.run(pool, pool.settings.dns)))
            tasks += [group.create_task(relay.run()), group.create_task(services.watch())]
            tasks.append(group.create_task(watch_certificates(certificates, log)))
            try:
                yield Worker(relay, pools, shared, openings)
            finally:
                for task in tasks:
                    task.cancel()
                relay.close()


def _make_pools(plan: Plan) -> dict[str, Pool]:
    pools = {name: _make_pool(resolved) for name, resolved in plan.pools.items() if not resolved.tiers}
    for pool in pools.values():
        # With --local nobody outside of this machine is asked.
        pool.discovered |= plan.local
    return pools


def _make_pool(resolved: ResolvedPool) -> Pool:
    settings = resolved.settings
    tls = _tls(resolved)
    name = settings.tls.name if settings.tls is not None else ""
    endpoints = [
        Endpoint(
            one.name,
            one.host,
            one.port,
            settings.slots,
            settings.probe,
            one.absent,
            tls=tls,
            server_name=name or (one.host if tls else ""),
        )
        for one in resolved.endpoints
    ]
    return Pool(resolved.name, settings, endpoints, _roll, random.random)


def _tls(resolved: ResolvedPool) -> ssl.SSLContext | None:
    return upstream_context(resolved) if resolved.settings.tls is not None else None


def _descriptors(config: Config, pools: Mapping[str, Pool], log: FilteringBoundLogger) -> Descriptors:
    """Share the process's descriptors out among callers and endpoints."""
    kept = config.relay.idle_connections_per_endpoint * sum(len(pool.endpoints) for pool in pools.values())
    most = most_callers(resource.getrlimit(resource.RLIMIT_NOFILE)[0], kept)
    return Descriptors(most, lambda event: log.warning(event, connections=most))


def _roll(sides: int) -> int:
    # A quarter of randrange's cost, and even enough for a handful of sides.
    return int(random.random() * sides)  # noqa: S311 - ties and pauses, no secrets


def _tiers(plan: Plan, pools: Mapping[str, Pool], name: str) -> Tiers:
    """Return a pool's tiers; a pool of endpoints is its own only tier."""
    return Tiers([pools[tier] for tier in plan.pools[name].tiers or (name,)])


def _make_relay(
    config: Config,
    log: FilteringBoundLogger,
    writer: LogWriter,
    spawn: Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"],
) -> Relay:
    def on_change(pool: Pool, endpoint: Endpoint, why: str) -> None:
        tell, became = (log.info, "ready") if endpoint.ready else (log.warning, "unready")
        tell(f"endpoint_became_{became}", pool=pool.name, endpoint=endpoint.name, why=str(why))

    return Relay(
        settings=config.relay,
        now=time.monotonic,
        roll=_roll,
        journal=Journal(Timestamps(time.time), writer.put if config.log.access else None),
        spawn=spawn,
        on_change=on_change,
    )
