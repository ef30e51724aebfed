"""Owns what all balanced ports of one worker share: connections, deadlines, counters, and acting on pools' events.

Must not know where pools and listeners were configured.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pools.admission import Event, Expired, Granted, Lease, Outcome, Refusal
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.auth.networks import Networks
from sovren_edge.http.answer import Answer
from sovren_edge.http.remembered import Remembered
from sovren_edge.http.request import RequestHead, parse_request
from sovren_edge.observe.stats import ListenerStats, PoolStats
from sovren_edge.observe.trace_context import unrecorded_lines
from sovren_edge.observe.tracing import Tracer
from sovren_edge.relay.budget import Budget
from sovren_edge.relay.connections import Connections
from sovren_edge.relay.deadlines import STEP_S, Deadlines
from sovren_edge.relay.exchange import Supplier
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.hedge import begin_due
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.taker import Taker

if TYPE_CHECKING:
    from sovren_edge.relay.downstream import Downstream

# Outcomes after which an endpoint may no longer be ready.
UNREADYING = frozenset({Outcome.FAILED, Outcome.REFUSED})


class Pages(Protocol):
    """What a listener answers by itself."""

    def answer(self, method: str, path: str, peer: str) -> Answer | None:
        """Return the answer to a request that is never forwarded; None for all others."""


@dataclass(frozen=True, slots=True)
class Door:
    """One balanced listener: who may come in, and which tiers serve them."""

    name: str
    tiers: Tiers
    pages: Pages
    allow: Networks
    trusted: Networks
    stats: ListenerStats
    # A door without tiers has pages only.
    alone: bool = False
    scheme: bytes = b"http"
    # Makes what a request's answer is to come from.
    supplier: "MakeSupplier" = Fetch
    # Whether answers are read off endpoints faster than callers read them, as far as memory allows.
    reads_ahead: bool = False
    # Whether trusted callers may ask why they are answered by whom.
    explains: bool = False


MakeSupplier = Callable[["Relay", Door, Taker], Supplier]


class Owner(Protocol):
    """Whoever waits in a queue."""

    def granted(self, lease: Lease) -> None:
        """Take a slot."""

    def displaced(self) -> None:
        """Look for another tier: this one can no longer serve."""

    def refused(self, refusal: Refusal) -> None:
        """Give up."""


@dataclass(slots=True, eq=False)
class Relay:
    """The balancer's data path; `now` reads a monotonic clock in seconds."""

    settings: RelaySettings
    now: Callable[[], float]
    roll: Callable[[int], int]
    journal: Journal
    spawn: Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"]
    on_change: Callable[[Pool, Endpoint, str], None]
    # None where no spans are recorded.
    tracer: Tracer | None = None
    connections: Connections = field(init=False)
    deadlines: Deadlines = field(init=False)
    downstreams: "set[Downstream]" = field(default_factory=set)
    paused: "set[Downstream]" = field(default_factory=set)
    pool_stats: dict[Pool, PoolStats] = field(default_factory=dict)
    budget: Budget = field(init=False)
    # Those that may be hedged, until they are answered.
    awaiting: set[Fetch] = field(default_factory=set)
    # While it is set, an answer is its connection's last.
    draining: bool = False
    closed: bool = False
    # By whether the caller's address is trusted.
    requests: dict[bool, Remembered[RequestHead]] = field(init=False)
    request_ids: Iterator[bytes] = field(init=False)
    # What requests are told to belong to that belong to no trace.
    traces: Iterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.connections = Connections(self.settings, self.now)
        self.deadlines = Deadlines(self.now())
        self.budget = Budget(self.settings.buffers_limit)
        self.requests = {trusted: Remembered(partial(parse_request, trusted=trusted)) for trusted in (False, True)}
        # Unique without asking the system for randomness at each request.
        self.request_ids = map((secrets.token_hex(8).encode() + b"-%x").__mod__, itertools.count())
        self.traces = unrecorded_lines(random.getrandbits)

    def stats_of(self, pool: Pool) -> PoolStats:
        """Return a pool's counters."""
        stats = self.pool_stats.get(pool)
        if stats is None:
            stats = self.pool_stats[pool] = PoolStats()
            # Series that begin at zero: a rate sees the first failure too.
            stats.refusals.update(dict.fromkeys(Refusal, 0))
            for endpoint in pool.endpoints:
                stats.endpoints[endpoint.name].attempts.update(dict.fromkeys(Outcome, 0))
        return stats

    def act(self, events: Iterable[Event]) -> None:
        """Tell waiters what a pool has decided."""
        for event in events:
            owner: Owner = event.waiter.owner  # type: ignore[assignment]  # pools hand owners back as they came
            if isinstance(event, Granted):
                owner.granted(event.lease)
            elif isinstance(event, Expired):
                owner.refused(Refusal.QUEUE_TIMEOUT)
            else:
                owner.displaced()

    def release(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Release a lease and act on what follows; tell when its endpoint is no longer ready."""
        was_ready = outcome in UNREADYING and lease.endpoint.ready
        events = lease.pool.release(lease, outcome, now)
        if was_ready and not lease.endpoint.ready:
            self.on_change(lease.pool, lease.endpoint, outcome)
        if events:
            self.act(events)

    def observe(self, pool: Pool, endpoint: Endpoint, result: ProbeResult) -> None:
        """Take a probe's result and act on what follows; tell when the endpoint's health flipped."""
        first, was_flapping = not endpoint.health.probed, endpoint.outlier.flapping
        flipped, events = pool.observe(endpoint, result, self.now())
        if endpoint.outlier.flapping:
            # Told once: as long as it is out, its flips mean nothing.
            if not was_flapping:
                self.on_change(pool, endpoint, "flapping")
        # Of a certificate that was never good nothing else would tell.
        elif flipped or (first and result is ProbeResult.UNTRUSTED):
            self.on_change(pool, endpoint, result)
        self.act(events)

    def sweep(self) -> None:
        """End what has waited too long; idle connections cost nothing here."""
        now = self.now()
        for pool in self.pool_stats:
            self.act(pool.tick(now))
        if self.awaiting:
            begin_due(self, now)
        self.deadlines.sweep(now)
        for downstream in tuple(self.paused):
            downstream.check_presence()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            self.sweep()

    def close_idle(self) -> None:
        """Close connections without a request."""
        for downstream in tuple(self.downstreams):
            downstream.close_when_idle()

    def close(self) -> int:
        """End everything that is still open, and connect to nobody any more; return how many requests were cut."""
        self.closed = True
        busy = [downstream for downstream in self.downstreams if downstream.busy]
        for downstream in tuple(self.downstreams):
            downstream.abort()
        self.connections.close()
        return len(busy)
