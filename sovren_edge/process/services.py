"""Owns what business handlers are given: the database, the shared HTTP client, addresses, metrics.

Must not know ports or pages.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import aiohttp
from structlog.typing import FilteringBoundLogger

from sovren_edge.auth.jwks import Jwks
from sovren_edge.auth.tokens import AuthSettings, OneKey, Verifier
from sovren_edge.config.model import Config
from sovren_edge.config.plan import Plan
from sovren_edge.handler.edge import Clock, Edge
from sovren_edge.observe.log import LogWriter
from sovren_edge.observe.registry import Metrics
from sovren_edge.store.database import Database, open_database

READY_INTERVAL_S = 2.0


@dataclass(slots=True)
class Services:
    """What all handlers of a worker share."""

    log: FilteringBoundLogger
    writer: LogWriter
    http: aiohttp.ClientSession
    doors: Mapping[str, str]
    database: Database | None
    tokens: Verifier | None
    database_ready: bool = field(default=False)

    def edge(self, listener: str, metrics: Metrics) -> Edge:
        """Make what one handler is given."""
        database = self.database
        return Edge(
            name=listener,
            log=self.log.bind(listener=listener),
            clock=Clock(),
            http=self.http,
            metrics=metrics,
            open_database=None if database is None else lambda: nullcontext(database),
            doors=self.doors,
            tokens=self.tokens,
        )

    async def watch(self) -> None:
        """Look after the database until cancelled; tell when it comes and goes."""
        while self.database is not None:
            ready = await self.database.ready()
            if ready != self.database_ready:
                self.database_ready = ready
                self.log.info("database_became_ready" if ready else "database_became_unready")
            await asyncio.sleep(READY_INTERVAL_S)


@asynccontextmanager
async def open_services(
    plan: Plan, config: Config, database_url: str | None, log: FilteringBoundLogger, writer: LogWriter
) -> AsyncIterator[Services]:
    """Hold what handlers share; nothing is opened that no handler can use."""
    handled = any(listener.handler is not None or listener.kind == "gateway" for listener in plan.listeners)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        database = None
        if handled and database_url is not None:
            database = await stack.enter_async_context(open_database(database_url, config.database))
        yield Services(log, writer, http, _doors(plan, config), database, _verifier(config.auth, http, log))


def _verifier(settings: AuthSettings, http: aiohttp.ClientSession, log: FilteringBoundLogger) -> Verifier | None:
    """Return what knows callers by their tokens, if any key is configured."""
    if settings.key is not None:
        return Verifier(settings, OneKey(settings.key.get_secret_value()), time.time)
    if settings.jwks_url is not None:
        return Verifier(settings, Jwks(str(settings.jwks_url), http, time.monotonic, log), time.time)
    return None


def _doors(plan: Plan, config: Config) -> dict[str, str]:
    """Return each service's first door: here over loopback where it is bound to all addresses, else on its node."""
    doors: dict[str, str] = {}
    for listener in plan.listeners:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.bind, listener.bind)
        scheme = "http" if listener.settings.tls is None else "https"
        doors.setdefault(listener.service or listener.name, f"{scheme}://{host}:{listener.port}")
    for name, elsewhere in config.listeners.items():
        if not elsewhere.planned and elsewhere.node is not None:
            scheme = "http" if elsewhere.tls is None else "https"
            doors.setdefault(elsewhere.service or name, f"{scheme}://{config.nodes[elsewhere.node]}:{elsewhere.port}")
    return doors
