"""Owns connections to endpoints: opening them, and the idle ones, last in first out.

Must not know what is sent on them.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

from pools.endpoint import Endpoint
from sovren_edge.http.remembered import Remembered
from sovren_edge.http.response import parse_response
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.upstream import Upstream


class Connections:
    """Every connection to an endpoint is made here and ends here."""

    def __init__(self, settings: RelaySettings, now: Callable[[], float]) -> None:
        self.now = now
        self.responses = Remembered(parse_response)
        self.head_limit = settings.head_limit
        self._connect_timeout_s = settings.connect_timeout_s
        self._idle_limit = settings.idle_connections_per_endpoint
        self._idle: defaultdict[Endpoint, deque[Upstream]] = defaultdict(deque)
        self._open: set[Upstream] = set()

    @property
    def all(self) -> frozenset[Upstream]:
        """Every open connection, idle or not."""
        return frozenset(self._open)

    def take(self, endpoint: Endpoint) -> Upstream | None:
        """Return the idle connection that was used last; None when there is none."""
        idle = self._idle[endpoint]
        while idle:
            upstream = idle.pop()
            transport = upstream.transport
            if transport is not None and not transport.is_closing():
                return upstream
        return None

    async def connect(self, endpoint: Endpoint) -> Upstream:
        """Open a connection; raise OSError (TimeoutError after `connect_timeout_s`)."""
        upstream = Upstream(endpoint, self)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: upstream,
                    endpoint.host,
                    endpoint.port,
                    ssl=endpoint.tls,
                    server_hostname=endpoint.server_name or None,
                )
        except asyncio.CancelledError:
            # Cancelled between connecting and being told of it: nobody else would close it.
            upstream.abort()
            raise
        if not upstream.usable:
            raise ConnectionResetError("the connection was closed as soon as it was made")
        self._open.add(upstream)
        return upstream

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        if not self._idle_limit:
            self.discard(upstream)
            return
        if upstream.held:
            upstream.pause(paused=False)
        idle = self._idle[upstream.endpoint]
        idle.append(upstream)
        if len(idle) > self._idle_limit:
            idle.popleft().abort()

    def discard(self, upstream: Upstream) -> None:
        """End a connection that cannot be used again."""
        upstream.abort()
        self.lost(upstream)

    def lost(self, upstream: Upstream) -> None:
        """Forget a connection that has ended."""
        self._open.discard(upstream)
        idle = self._idle.get(upstream.endpoint)
        if idle and upstream in idle:
            idle.remove(upstream)

    def forget(self, endpoint: Endpoint) -> None:
        """End the idle connections to an endpoint: one was stale, so the others are likely to be."""
        for upstream in self._idle.pop(endpoint, ()):
            upstream.abort()

    def close(self) -> None:
        """End all connections."""
        for upstream in tuple(self._open):
            upstream.abort()
        self._idle.clear()
