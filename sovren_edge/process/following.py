"""Owns what becomes of endpoints that DNS names: they join their pool and are probed, drain, and leave.

Must not know how DNS is asked.
"""

import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import aiohttp
from structlog.typing import FilteringBoundLogger

from pools.admission import Outcome
from pools.discovery import Found, follow
from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.probe import watch_endpoint
from pools.settings import DnsSettings
from sovren_edge.relay.relay import Relay

if TYPE_CHECKING:
    import asyncio

Spawn = Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"]


class Following:
    """Keeps one pool's endpoints as DNS names them; see pools.discovery.Follower."""

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

    async def run(self, pool: Pool, settings: DnsSettings) -> None:
        """Follow until cancelled."""
        try:
            await follow(pool, settings, self)
        finally:
            for watch in self._watches.values():
                watch.cancel()

    def joined(self, pool: Pool, found: Found) -> Endpoint:
        """See pools.discovery.Follower."""
        settings = pool.settings
        host = f"[{found.host}]" if ":" in found.host else found.host
        by_name = settings.dns.name.rstrip(".") if settings.dns is not None else ""
        endpoint = Endpoint(
            f"{pool.name}-{host}:{found.port}",
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
        self._watches[endpoint] = self._spawn(watch_endpoint(pool, endpoint, self._probes, self._relay.observe))
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
