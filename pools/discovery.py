"""Owns asking DNS for a pool's endpoints, and what follows from an answer: who joins, and who leaves.

An answer that does not come, or names nobody, changes nothing: whoever was found last goes on. Who is no longer named
gets no further requests, and leaves when its last one has ended. Must not know how endpoints are probed.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from pools.endpoint import Endpoint
from pools.pool import Pool
from pools.settings import DnsSettings

# An answer is believed for its time to live, within these bounds.
LEAST_TTL_S, MOST_TTL_S = 1.0, 300.0
# When there was none, it is asked for again so soon.
RETRY_S = 5.0
LOOKUP_S = 4.0
# How often it is looked whether those who leave have ended.
STEP_S = 0.5
# So long who is named no more serves on while nobody else can.
SUCCEEDED_S = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """One address that an answer names."""

    host: str
    port: int
    weight: float = 1.0

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from others."""
        return self.host, self.port


class LookupFailedError(Exception):
    """No answer came; whoever was found before may still be there."""


class Follower(Protocol):
    """What discovery needs of whoever runs the pool."""

    def now(self) -> float:
        """Return a point in time."""

    def joined(self, pool: Pool, found: Found) -> Endpoint:
        """Make an endpoint, and have it probed."""

    def leaving(self, pool: Pool, endpoint: Endpoint) -> None:
        """Give an endpoint no further requests."""

    def returned(self, pool: Pool, endpoint: Endpoint) -> None:
        """Let an endpoint that was leaving take requests again."""

    def left(self, pool: Pool, endpoint: Endpoint) -> None:
        """Forget an endpoint whose last request has ended."""

    def told(self, pool: Pool, event: str, **fields: object) -> None:
        """Take note of a change."""


def make_resolver(settings: DnsSettings) -> dns.asyncresolver.Resolver:
    """Make what asks: the system's servers, or the one that is set."""
    resolver = dns.asyncresolver.Resolver(configure=not settings.server)
    if settings.server:
        host, _, port = settings.server.rpartition(":")
        resolver.nameservers = [host.strip("[]")]
        resolver.port = int(port)
    resolver.lifetime = LOOKUP_S
    return resolver


async def look_up(settings: DnsSettings, resolver: dns.asyncresolver.Resolver) -> tuple[frozenset[Found], float]:
    """Return the addresses that are named now, and for how long that holds (seconds); raise LookupFailedError."""
    try:
        name = dns.name.from_text(settings.name)  # absolute: no search domain is ever tried
        if settings.port is None:
            return await _services(name, resolver)
        hosts, ttl_s = await _hosts(name, resolver)
    except (dns.exception.DNSException, OSError) as error:
        raise LookupFailedError(type(error).__name__) from error
    return frozenset(Found(host, settings.port) for host in hosts), ttl_s


async def _services(name: dns.name.Name, resolver: dns.asyncresolver.Resolver) -> tuple[frozenset[Found], float]:
    answer = await _ask(name, "SRV", resolver)
    if answer is None:
        return frozenset(), LEAST_TTL_S
    records = [record for record in answer if isinstance(record, SRV)]
    best = [record for record in records if record.priority == min(each.priority for each in records)]
    most = max(record.weight for record in best)
    ttl_s = _ttl_s(answer)
    found: set[Found] = set()
    for record in best:
        hosts, host_ttl_s = await _hosts(record.target, resolver)
        ttl_s = min(ttl_s, host_ttl_s)
        weight = max(record.weight, 1) / most if most else 1.0
        found |= {Found(host, record.port, max(weight, 0.01)) for host in hosts}
    return frozenset(found), ttl_s


async def _hosts(name: dns.name.Name, resolver: dns.asyncresolver.Resolver) -> tuple[list[str], float]:
    answers = [await _ask(name, kind, resolver) for kind in ("A", "AAAA")]
    hosts = [record.to_text() for answer in answers if answer is not None for record in answer]
    return hosts, min((_ttl_s(answer) for answer in answers if answer is not None), default=LEAST_TTL_S)


async def _ask(name: dns.name.Name, kind: str, resolver: dns.asyncresolver.Resolver) -> dns.resolver.Answer | None:
    """Return an answer; None where the name, or a record of this kind, does not exist."""
    try:
        return await resolver.resolve(name, kind, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None


def _ttl_s(answer: dns.resolver.Answer) -> float:
    return min(max(float(answer.chaining_result.minimum_ttl), LEAST_TTL_S), MOST_TTL_S)


class Discovery:
    """What one pool's answers have come to."""

    def __init__(self, pool: Pool, follower: Follower, endpoints: Iterable[Endpoint] = ()) -> None:
        """Begin with the endpoints that a pool has."""
        self._pool = pool
        self._follower = follower
        self._endpoints = {(endpoint.host, endpoint.port): endpoint for endpoint in endpoints}
        self._leaving: dict[tuple[str, int], Endpoint] = {}
        # Named no more, but serving until others do, and no longer than until then.
        self._gone: dict[tuple[str, int], float] = {}
        self._failing = ""

    def take(self, found: Collection[Found]) -> None:
        """Take an answer."""
        if not found:
            self.fail("the answer names nobody")
            return
        self._failing = ""
        named: Mapping[tuple[str, int], Found] = {one.key: one for one in found}
        for key, one in named.items():
            if key in self._leaving:
                endpoint = self._endpoints[key] = self._leaving.pop(key)
                self._follower.returned(self._pool, endpoint)
            elif key not in self._endpoints:
                self._endpoints[key] = self._follower.joined(self._pool, one)
        until = self._follower.now() + SUCCEEDED_S
        self._gone = {key: self._gone.get(key, until) for key in self._endpoints if key not in named}
        self._let_go()

    def _let_go(self) -> None:
        """Have those leave that are named no more, once somebody else is ready to serve in their place."""
        served = any(endpoint.ready for key, endpoint in self._endpoints.items() if key not in self._gone)
        for key, until in tuple(self._gone.items()):
            if served or not self._endpoints[key].ready or self._follower.now() >= until:
                del self._gone[key]
                endpoint = self._leaving[key] = self._endpoints.pop(key)
                self._follower.leaving(self._pool, endpoint)

    def fail(self, reason: str) -> None:
        """Take note that no answer came, or none that is of use; told once."""
        if reason != self._failing:
            self._failing = reason
            self._follower.told(self._pool, "discovery_failed", why=reason, endpoints=len(self._endpoints))

    def sweep(self) -> None:
        """Let those go whose last request has ended."""
        if self._gone:
            self._let_go()
        for key, endpoint in tuple(self._leaving.items()):
            if not endpoint.inflight:
                del self._leaving[key]
                self._follower.left(self._pool, endpoint)


async def follow(pool: Pool, settings: DnsSettings, discovery: Discovery, follower: Follower) -> None:
    """Keep a pool's endpoints as DNS names them, until cancelled."""
    resolver = make_resolver(settings)
    ask_at = follower.now()
    while True:
        if follower.now() >= ask_at:
            try:
                found, ttl_s = await look_up(settings, resolver)
            except LookupFailedError as error:
                discovery.fail(str(error))
                ttl_s = RETRY_S
            else:
                discovery.take(found)
                ttl_s = ttl_s if found else RETRY_S
            pool.discovered = True
            ask_at = follower.now() + ttl_s
        discovery.sweep()
        await asyncio.sleep(STEP_S)
