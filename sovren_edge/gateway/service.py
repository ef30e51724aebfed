"""Owns what the gateway is made of, and its life: composed here and nowhere else.

Must not know ports, nor how its configuration was read.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.gateway.bodies import MOST_BYTES, Bodies
from sovren_edge.gateway.counts import Counts
from sovren_edge.gateway.credentials import open_credentials
from sovren_edge.gateway.egress import Egress, open_egress
from sovren_edge.gateway.idempotency import open_idempotency
from sovren_edge.gateway.journal import Journal, JournalError, open_journal
from sovren_edge.gateway.ledger import open_ledger
from sovren_edge.gateway.limiter import Limiter
from sovren_edge.gateway.owners import open_owners
from sovren_edge.gateway.proxy import Proxy
from sovren_edge.gateway.recording import Recording
from sovren_edge.gateway.refusals import REFUSED_MOST
from sovren_edge.gateway.resolver import Resolver
from sovren_edge.gateway.sealing import Sealer, read_keys
from sovren_edge.gateway.sending import Sending
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.handler import Edge, Handler, Routes, route

HOUR_US = 3_600_000_000
FLUSH_S, FOUNDER_S = 10.0, 5.0
MOVED = "{} are served on port 8250 now; this port is the gateway to external APIs."


class Gateway(Handler):
    """Send requests to external APIs on behalf of subscribers: whitelisted hosts, so many an hour, all recorded."""

    migrations: ClassVar[str | None] = "sovren_edge.gateway.migrations"
    moved: ClassVar[Mapping[str, str]] = {
        "/executives": MOVED.format("Executives"),
        "/deliberations": MOVED.format("Deliberations"),
    }
    body_limit: ClassVar[int] = MOST_BYTES

    settings: GatewaySettings
    state_dir: Path

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        """Serve; PostgreSQL may be away, and Redis, and then callers are told so."""
        async with AsyncExitStack() as stack:
            yield await _compose(self.settings, self.state_dir / "gateway", edge, stack)


async def _compose(settings: GatewaySettings, folder: Path, edge: Edge, stack: AsyncExitStack) -> Routes:
    """Open everything, in the order in which each needs those before it."""
    enter, log = stack.enter_async_context, edge.log
    owner = f"{edge.name}@{socket.gethostname()}:{uuid4().hex}"
    database = await enter(edge.database())
    journal = stack.enter_context(_journal(folder, owner, settings.journal_bytes))
    ledger = await enter(open_ledger(database, journal, log))
    owners = await enter(open_owners(database, owner, lambda: not ledger.journaling, log))
    egress = await enter(_way_out(settings))
    keys = settings.credential_keys
    sealer = None if keys is None else Sealer(read_keys(keys.get_secret_value()))
    credentials = await enter(open_credentials(database, egress, sealer, log))
    idempotency = await enter(open_idempotency(database, sealer, owner))
