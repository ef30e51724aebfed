"""Owns the pools of one worker: making them, who is in them, and what changes in them while they serve.

Must not know listeners, nor who asks for a change.
"""

import random
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

import aiohttp
from structlog.typing import FilteringBoundLogger

from pools.discovery import Found
from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.config.resolved import ResolvedPool
from sovren_edge.process.certificates import upstream_context
from sovren_edge.process.following import Following, Spawn
from sovren_edge.relay.relay import Relay

if TYPE_CHECKING:
    import asyncio


class ServedPools:
    """Pools of endpoints by name, watched by `probes`; tiers are made of them. With `local` DNS is not asked."""

    def __init__(
        self,
        relay: Relay,
        probes: aiohttp.ClientSession,
        spawn: Spawn,
        log: FilteringBoundLogger,
        *,
        local: bool,
    ) -> None:
        self.pools: dict[str, Pool] = {}
        self._resolved: Mapping[str, ResolvedPool] = {}
        self._relay = relay
        self._probes = probes
        self._spawn = spawn
        self._log = log
        self._local = local
        self._followings: dict[str, tuple[Following, asyncio.Task[None]]] = {}

    def tiers(self, name: str) -> Tiers:
        """Return a pool's tiers; a pool of endpoints is its own only tier."""
        return Tiers([self.pools[tier] for tier in self._resolved[name].tiers or (name,)])

    def take(self, resolved: Mapping[str, ResolvedPool]) -> None:
        """Serve these pools from now on: what is in them and was there before goes on, what is not leaves in peace."""
        self._resolved = resolved
        for name, one in resolved.items():
            if one.tiers:
                continue
            if name in self.pools:
                self._change(self.pools[name], one)
            else:
                self._begin(one)

    def forget_others(self) -> None:
        """Forget pools that are served no more, and whom nobody can ask any more."""
        for name in self.pools.keys() - self._resolved.keys():
            pool = self.pools.pop(name)
            self._followings.pop(name)[1].cancel()
            for endpoint in pool.endpoints:
                self._relay.connections.forget(endpoint)
            self._relay.pool_stats.pop(pool, None)

    def close(self) -> None:
        """Watch nobody any more."""
        for _, task in self._followings.values():
            task.cancel()

    def _begin(self, resolved: ResolvedPool) -> None:
        pool = self.pools[resolved.name] = _make_pool(resolved)
        # With --local nobody outside of this machine is asked.
        pool.discovered |= self._local
        self._relay.stats_of(pool)
        following = Following(self._relay, self._probes, self._spawn, self._log, _tls(resolved))
        self._followings[pool.name] = following, self._spawn(following.run(pool, ask=not self._local))

    def _change(self, pool: Pool, resolved: ResolvedPool) -> None:
        self._relay.act(pool.reconfigure(resolved.settings, self._relay.now()))
        if resolved.settings.dns is None:
            named = {Found(one.host, one.port) for one in resolved.endpoints if not one.absent}
            self._followings[pool.name][0].take(named)


def roll(sides: int) -> int:
    """Return a number from 0 to `sides` - 1."""
    # A quarter of randrange's cost, and even enough for a handful of sides.
    return int(random.random() * sides)  # noqa: S311 - ties and pauses, no secrets


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
    return Pool(resolved.name, settings, endpoints, roll, random.random)


def _tls(resolved: ResolvedPool) -> ssl.SSLContext | None:
    return upstream_context(resolved) if resolved.settings.tls is not None else None
