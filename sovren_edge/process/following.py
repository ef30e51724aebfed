"""Owns what becomes of endpoints: they join their pool and are probed, drain, and leave.

Must not know how DNS is asked, nor how a configuration is read.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Coroutine
from itertools import count

import aiohttp
from structlog.typing import FilteringBoundLogger

from pools.admission import Outcome
from pools.discovery import Discovery, Found, follow
from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.probe import watch_endpoint
from sovren_edge.config.scope import endpoint_name
from sovren_edge.relay.relay import Relay

Spawn = Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"]
# So often those that leave are looked at.
STEP_S = 0.1


class Following:
    """Keeps one pool's endpoints as they are named, by DNS or the configuration; see pools.discovery.Follower."""

    def __init__(
        self, relay: Relay, probes: aiohttp.ClientSession, spawn: Spawn, log: FilteringBoundLogger,
        tls: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        self.now = relay.now
        self._relay = relay
        self._probes = probes
        self._spawn = spawn
        self._log = log
        self._tls = tls
        self._watches: dict[Endpoint, asyncio.Task[None]] = {}
        self._discovery: Discovery | None = None

    async def run(self, pool: Pool, *, ask: bool = True) -> None:
        """Watch a pool's endpoints until cancelled; unless told not to, DNS is asked where it names them."""
        present = [endpoint for endpoint in pool.endpoints if not endpoint.absent]
        self._discovery = Discovery(pool, self, present)
        for endpoint in present:
            self._watch(pool, endpoint)
        try:
            if ask and pool.settings.dns is not None:
                await follow(pool, pool.settings.dns, self._discovery, self)
            while True:
                await asyncio.sleep(STEP_S)
                self._discovery.sweep()
        finally:
            for watch in self._watches.values():
                watch.cancel()

    def take(self, named: Collection[Found]) -> None:
        """Have these be a pool's endpoints: others join, and those that are not named leave."""
        if self._discovery is not None:
            self._discovery.take(named)

    def _watch(self, pool: Pool, endpoint: Endpoint) -> None:
        self._watches[endpoint] = self._spawn(watch_endpoint(pool, endpoint, self._probes, self._relay.observe))

    def joined(self, pool: Pool, found: Found) -> Endpoint:
        """See pools.discovery.Follower."""
        settings = pool.settings
        host = f"[{found.host}]" if ":" in found.host else found.host
        by_name = settings.dns.name.rstrip(".") if settings.dns is not None else ""
        endpoint = Endpoint(
            _free_name(pool) if settings.dns is None else f"{pool.name}-{host}:{found.port}",
            found.host,
            found.port,
            settings.slots,
            settings.probe,
            tls=self._tls,
            server_name="" if settings.tls is None else settings.tls.name or by_name,
        )
        endpoint.weight = found.weight
        attempts = self._relay.stats_of(pool).endpoints[endpoint.name].attempts
        attempts.update(dict.fromkeys(Outcome, 0))
        pool.join(endpoint)
        self._watch(pool, endpoint)
        self._tell_joined(pool, endpoint)
        return endpoint

    def _tell_joined(self, pool: Pool, endpoint: Endpoint) -> None:
        # One that its operator has drained stays so, and nobody is to wonder why it serves nothing.
        self._log.info("endpoint_joined", pool=pool.name, endpoint=endpoint.name, enabled=endpoint.enabled)

    def leaving(self, pool: Pool, endpoint: Endpoint) -> None:
        """See pools.discovery.Follower."""
        self._log.info("endpoint_leaving", pool=pool.name, endpoint=endpoint.name, inflight=endpoint.inflight)
        self._set_named(pool, endpoint, named=False)

    def returned(self, pool: Pool, endpoint: Endpoint) -> None:
        """See pools.discovery.Follower."""
        self._tell_joined(pool, endpoint)
        self._set_named(pool, endpoint, named=True)

    def _set_named(self, pool: Pool, endpoint: Endpoint, *, named: bool) -> None:
        self._relay.act(pool.set_named(endpoint, self.now(), named=named))

    def left(self, pool: Pool, endpoint: Endpoint) -> None:
        """See pools.discovery.Follower."""
        self._watches.pop(endpoint).cancel()
        self._relay.act(pool.remove(endpoint, self.now()))
        self._relay.connections.forget(endpoint)
        self._relay.stats_of(pool).endpoints.pop(endpoint.name, None)
        self._log.info("endpoint_left", pool=pool.name, endpoint=endpoint.name)

    def told(self, pool: Pool, event: str, **fields: object) -> None:
        """See pools.discovery.Follower."""
        self._log.warning(event, pool=pool.name, **fields)


def _free_name(pool: Pool) -> str:
    """Return the first of a pool's names that no endpoint has."""
    taken = {endpoint.name for endpoint in pool.endpoints}
    return next(name for name in (endpoint_name(pool.name, place) for place in count()) if name not in taken)
