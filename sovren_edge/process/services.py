"""Owns what business handlers are given: the database, the shared HTTP client, addresses, metrics.

Must not know ports or pages.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from structlog.typing import FilteringBoundLogger

from sovren_edge.auth.jwks import Jwks
from sovren_edge.auth.tokens import AuthSettings, OneKey, Verifier
from sovren_edge.handler.edge import Clock, Edge
from sovren_edge.handler.tracing import continue_trace
from sovren_edge.observe.log import LogWriter
from sovren_edge.observe.registry import Metrics
from sovren_edge.process.parts import Part
from sovren_edge.store.database import Database, open_database

READY_INTERVAL_S = 2.0


@dataclass(slots=True)
class Services:
    """What all handlers of a worker share."""

    log: FilteringBoundLogger
    writer: LogWriter
    http: aiohttp.ClientSession
    doors: dict[str, str]
    database: Database | None
    tokens: Verifier | None
    state_dir: Path
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
            state_dir=self.state_dir,
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
async def open_services(part: Part, log: FilteringBoundLogger, writer: LogWriter) -> AsyncIterator[Services]:
    """Hold what handlers share; nothing is opened that none of them can use."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(_client())
        database = None
        if part.database_url is not None:
            database = await stack.enter_async_context(open_database(part.database_url, part.config.database))
        yield Services(log, writer, http, part.doors, database, _verifier(part.config.auth, http, log), part.state_dir)


def _client() -> aiohttp.ClientSession:
    # Who may have how many connections is for each handler to say: one that waits for another's is late for nothing.
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, trust_env=False, middlewares=(continue_trace,))


def _verifier(settings: AuthSettings, http: aiohttp.ClientSession, log: FilteringBoundLogger) -> Verifier | None:
    """Return what knows callers by their tokens, if any key is configured."""
    if settings.key is not None:
        return Verifier(settings, OneKey(settings.key.get_secret_value()), time.time)
    if settings.jwks_url is not None:
        return Verifier(settings, Jwks(str(settings.jwks_url), http, time.monotonic, log), time.time)
    return None
