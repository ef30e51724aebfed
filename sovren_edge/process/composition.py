"""Owns what a worker is made of: pools, the relay and its doors, handlers, probes; composed here and nowhere else.

Must not know processes, the binding of sockets or the local stack.
"""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.probe import open_client
from sovren_edge.auth.callers import Callers
from sovren_edge.config.model import Config
from sovren_edge.limits import Descriptors, most_callers
from sovren_edge.observe.log import LogWriter, Timestamps
from sovren_edge.observe.tracing import open_tracer
from sovren_edge.process.certificates import load_certificates, watch_certificates
from sovren_edge.process.doors import Everything, Opened, Shared
from sovren_edge.process.draining import drained
from sovren_edge.process.openings import Openings
from sovren_edge.process.parts import Part
from sovren_edge.process.served_pools import ServedPools, roll
from sovren_edge.process.services import open_services
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.relay import Relay
from sovren_edge.speech.keep import Keep
from sovren_edge.speech.serving import Speaking

if TYPE_CHECKING:
    from sovren_edge.gateway.service import RunningGateway


@dataclass(slots=True)
class Worker:
    """What one worker serves; nobody comes in before `let_in`."""

    part: Part
    shared: Shared
    openings: Openings

    @property
    def relay(self) -> Relay:
        """The data path of balanced ports."""
        return self.shared.relay

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools of endpoints."""
        return self.shared.served.pools

    @property
    def keeps(self) -> Mapping[str, Keep]:
        """The answers that pools keep, by the pool's name."""
        return self.shared.speaking.keeps

    async def change(self, part: Part, sockets: Mapping[str, socket.socket]) -> None:
        """Serve another part from now on, which is different only in what can change in place; see parts.changes."""
        wanted = {listener.name: listener for listener in part.plan.listeners}
        before = {listener.name: listener for listener, _ in self.openings.open_doors}
        opening = [listener for listener in wanted.values() if listener != before.get(listener.name)]
        self.shared.certificates.update(load_certificates(opening))
        self.shared.services.doors.clear()
        self.shared.services.doors.update(part.doors)
        self.shared.served.take(part.plan.pools)
        if self.gateway is not None:
            await self.gateway.reload(part.config.gateway)
        closing = [await self.openings.open(listener, sockets[listener.name]) for listener in opening]
        closing += [self.openings.named(name) for name in before.keys() - wanted.keys()]
        for name, listening in sockets.items():
            if name not in {listener.name for listener in opening}:
                listening.close()
        self.part = part
        self.openings.close_in_peace([door for door in closing if door is not None], part.drain_s)
        self.shared.served.forget_others()

    def let_in(self) -> None:
        """Accept connections from now on."""
        self.shared.opened.set()

    def refuse_readiness(self) -> None:
        """Have /ready say that others are to be asked from now on; everything else goes on."""
        self.shared.unready = True

    def close_doors(self, *, leave_backlog: bool) -> None:
        """Accept no more: who waits in the system's backlog still comes in, unless it is left to another process."""
        self.refuse_readiness()
        self.relay.draining = True
        for opened in self.doors:
            opened.acceptor.close(leave_backlog=leave_backlog)
            opened.inside.closing = True

    async def drain(self, drain_s: float) -> int:
        """Let open requests finish, and cut what is left after `drain_s`; return how many were cut."""
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
        inside = sum(opened.inside.count for opened in self.doors)
        return sum(downstream.busy for downstream in self.relay.downstreams) + inside

    @property
    def gateway(self) -> "RunningGateway | None":
        """The gateway, where this worker serves it."""
        return next((opened.gateway for opened in self.doors if opened.gateway is not None), None)

    @property
    def doors(self) -> Iterable[Opened]:
        """What is open."""
        return [opened for _, opened in self.openings.open_doors]


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
    config = part.config
    certificates = load_certificates(part.plan.listeners)
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        relay = _make_relay(config, log, writer, group.create_task)
        relay.tracer = stack.enter_context(open_tracer(config.tracing, part.name, log))
        services = await stack.enter_async_context(open_services(part, log, writer))
        probes = await stack.enter_async_context(open_client())
        served = ServedPools(relay, probes, group.create_task, log, local=part.plan.local)
        served.take(part.plan.pools)
        tokens = services.tokens
        shared = Shared(
            config=config,
            state_dir=part.state_dir,
            relay=relay,
            served=served,
            services=services,
            descriptors=_descriptors(config, served.pools, log),
            certificates=certificates,
            speaking=Speaking(None if tokens is None else Callers(tokens, time.time, group.create_task).name),
            everything=everything,
            opened=asyncio.Event(),
        )
        openings = Openings(shared, group)
        stack.push_async_callback(openings.close_all)
        for listener in part.plan.listeners:
            await openings.open(listener, sockets[listener.name])
        tasks = [
            group.create_task(relay.run()),
            group.create_task(services.watch()),
            group.create_task(watch_certificates(certificates, log)),
        ]
        try:
            yield Worker(part, shared, openings)
        finally:
            for task in tasks:
                task.cancel()
            served.close()
            relay.close()


def _descriptors(config: Config, pools: Mapping[str, Pool], log: FilteringBoundLogger) -> Descriptors:
    """Share the process's descriptors out among callers and endpoints."""
    kept = config.relay.idle_connections_per_endpoint * sum(len(pool.endpoints) for pool in pools.values())
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = most_callers(allowed, kept)
    if most < config.edge.connections:
        log.warning("descriptors_limit_callers", descriptors=allowed, callers=most, connections=config.edge.connections)
    return Descriptors(most, lambda event: log.warning(event, connections=most))


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
        roll=roll,
        journal=Journal(Timestamps(time.time), writer.put if config.log.access else None),
        spawn=spawn,
        on_change=on_change,
    )
