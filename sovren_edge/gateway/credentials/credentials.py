"""Owns what a request is authenticated with upstream: found quickly, refreshed in time, known through an outage.

Secrets stay sealed in memory until they are used. Must not know requests, how secrets are sealed, or what an
authorization server is asked.
"""

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.coalescing import Coalescing, Spawn
from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.refreshing import Refresher
from sovren_edge.gateway.credentials.sealing import Sealer
from sovren_edge.gateway.credentials.store import CredentialStore, Purpose, Stored
from sovren_edge.gateway.egress.client import Egress
from sovren_edge.gateway.handing import Page
from sovren_edge.gateway.reread import Reread
from sovren_edge.store.database import Database

# A change is in force within this; what is kept is a kilobyte or two each.
FRESH_S, MOST = 5.0, 10_000
# Of those that are handed over together.
TOGETHER = 250


@dataclass(frozen=True, slots=True)
class Credential:
    """The field that is sent: its name and its value."""

    name: str
    value: str = field(repr=False)


class Credentials:
    """Finds what is stored; `now` tells seconds since 1970, `now_s` counts seconds and never goes back."""

    def __init__(
        self,
        database: Database,
        store: CredentialStore,
        refresher: Refresher,
        spawn: Spawn,
        *,
        now: Callable[[], float],
        now_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._refresher = refresher
        self._now = now
        self._known: Reread[Purpose, Stored | None] = Reread(
            partial(store.read, database), spawn, now_s, fresh_s=FRESH_S, most=MOST
        )
        self._refreshes: Coalescing[tuple[Purpose, str | None], Stored | None] = Coalescing(spawn)

    @property
    def refresh_failures(self) -> int:
        """How often an authorization server was asked in vain."""
        return self._refresher.failed

    async def find(self, purpose: Purpose) -> Credential | None:
        """Return what is sent for this purpose; None: nothing is stored for exactly this host.

        Raises EdgeError: 502 if it has expired and cannot be refreshed, 503 if it cannot be read, or if nobody can
        tell whether there is one.
        """
        stored = await self._known.get(purpose)
        secret = None if stored is None else self._store.open(stored)
        if isinstance(secret, OAuthSecret) and secret.is_due(self._now()):
            refreshing = self._refreshes.start((purpose, None), partial(self._refresh, purpose, None))
            # One that is only about to expire is sent meanwhile.
            if secret.is_expired(self._now()):
                stored = await asyncio.shield(refreshing)
        return self._credential(stored)

    async def renew(self, purpose: Purpose, used: str) -> Credential | None:
        """Return another credential than the one whose value upstream has refused; None: there is none."""
        try:
            stored = await self._refreshes.join((purpose, used), partial(self._refresh, purpose, used))
            credential = self._credential(stored)
        except EdgeError:
            return None
        return None if credential is None or credential.value == used else credential

    def pages(self) -> Iterator[Page]:
        """Yield what is stored, sealed as it is, for a process that cannot ask PostgreSQL."""
        known = self._known.items()
        for first in range(0, len(known), TOGETHER):
            rows = [(*purpose, *_told(stored)) for purpose, stored in known[first : first + TOGETHER]]
            yield Page({"credentials": rows})

    def take(self, page: Page) -> None:
        """Know them, until they are read."""
        for subscriber, service, host, kind, header, sealed in page.given["credentials"]:
            purpose = Purpose(subscriber, service, host)
            self._known.give(purpose, Stored(purpose, kind, header, b64decode(sealed)) if kind else None)

    async def _refresh(self, purpose: Purpose, used: str | None) -> Stored | None:
        stored = await self._refresher.refresh(purpose, used)
        self._known.put(purpose, stored)
        return stored

    def _credential(self, stored: Stored | None) -> Credential | None:
        return None if stored is None else Credential(stored.header, self._store.open(stored).value)


def _told(stored: Stored | None) -> tuple[str, str, str]:
    return ("", "", "") if stored is None else (stored.kind, stored.header, b64encode(stored.sealed).decode())


@asynccontextmanager
async def open_credentials(
    database: Database,
    egress: Callable[[], Egress],
    sealer: Callable[[], Sealer | None],
    log: FilteringBoundLogger,
    *,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Credentials]:
    """Find credentials until the block ends; a refresh that runs then is waited for, lest a token be lost."""
    store = CredentialStore(sealer)
    refresher = Refresher(database, store, egress, now, log)
    async with asyncio.TaskGroup() as tasks:
        now_s = asyncio.get_running_loop().time
        yield Credentials(database, store, refresher, tasks.create_task, now=now, now_s=now_s)
