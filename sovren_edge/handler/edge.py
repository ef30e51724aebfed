"""Owns what the program hands to a handler.

Must not know how any of it is made: the composition root fills it in.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientSession
from aiohttp.web import Request
from structlog.typing import FilteringBoundLogger

from sovren_edge.auth.tokens import Identity, Verifier
from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.observe.registry import Metrics
from sovren_edge.store.database import Database


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Tells the time: `now()` is aware and in UTC, `monotonic()` counts seconds and never goes back."""

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What every handler needs: `name` is its listener's, `http` is shared and closed by the program.

    `open_database`, `doors` (the URL of a service's first address), `tokens` and `state_dir` are read through
    `database`, `url`, `authenticate` and `directory`; `checks` are what /ready asks, and grow by `depends`.
    """

    name: str
    log: FilteringBoundLogger
    clock: Clock
    http: ClientSession
    metrics: Metrics
    open_database: Callable[[], AbstractAsyncContextManager[Database]] | None
    doors: Mapping[str, str]
    state_dir: Path
    tokens: Verifier | None = None
    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)

    def depends(self, name: str, ready: Callable[[], bool]) -> None:
        """Have /ready ask this as well, under a name of its own, from now on."""
        self.checks[name] = ready

    def database(self) -> AbstractAsyncContextManager[Database]:
        """Open the database, which may be away; StartupError if none is configured."""
        if self.open_database is None:
            raise StartupError(f"the listener {self.name} needs a database, and none is configured (database.url)")
        return self.open_database()

    def directory(self) -> Path:
        """Return a folder of the listener's own, for files that outlive the process; it is closed to others."""
        own = self.state_dir / "handlers" / self.name
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        return own

    async def authenticate(self, request: Request) -> Identity:
        """Return whom a request's token names; raises EdgeError: 401, or 503 where tokens cannot be verified."""
        if self.tokens is None:
            raise EdgeError(503, "tokens_not_configured", "Nobody can be known here: no key of tokens is configured.")
        return await self.tokens.identify(request.headers.getall("Authorization", ()))

    def url(self, service: str) -> str:
        """Return the base URL of a service's first door, without a slash at its end; LookupError if it has none."""
        if service not in self.doors:
            known = ", ".join(sorted(self.doors)) or "none"
            raise LookupError(f"no service is named {service!r}; known are: {known}")
        return self.doors[service]
