"""Owns the typed face of a PostgreSQL connection, how a single one is made, and what counts as a database that is away.

Must not know pools, tables or migrations.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypeAlias

import asyncpg

from sovren_edge.errors import EdgeError

APPLICATION_NAME = "sovren-edge"
_RETRY_AFTER_S = 5
# A server that ends sessions, statements or one of two transactions in each other's way, that is out of disk or memory,
# or a standby that takes no writes; and what asyncpg calls an internal error: a query that meets a server's last words
# in the place of its answer.
_UNABLE = (
    asyncpg.TransactionRollbackError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Whatever prevents that a connection is made, taken or given back."""

Value: TypeAlias = Any
"""What a column holds: only its query knows."""

Row: TypeAlias = Mapping[str, Value]
"""A result's row by column names."""


class Connection(Protocol):
    """The part of asyncpg's connection that this program uses; parameters are written $1, $2, ..."""

    async def fetch(self, query: str, *parameters: object) -> list[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *parameters: object) -> Row | None:
        """Return the first row, if there is one."""
        ...

    async def fetchval(self, query: str, *parameters: object) -> Value:
        """Return the first column of the first row, or None."""
        ...

    async def execute(self, query: str, *parameters: object) -> str:
        """Run a statement, or without parameters several, and return the command's tag."""
        ...

    def cursor(
        self, query: str, *parameters: object, prefetch: int = 50, timeout: float | None = None
    ) -> AsyncIterable[Row]:
        """Return rows as they are asked for, within a transaction; so many at a time, each time within `timeout`."""
        ...

    def transaction(
        self, *, isolation: Literal["repeatable_read"] | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Return a block that commits at its end, and rolls back on an exception."""
        ...

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def is_closed(self) -> bool:
        """Whether the connection is lost or closed."""
        ...


def server_settings(schema: str) -> dict[str, str]:
    """Return the settings of every session of ours: it sees one schema alone, and UTC."""
    return {"search_path": quoted(schema), "timezone": "UTC", "application_name": APPLICATION_NAME}


def quoted(identifier: str) -> str:
    """Return an identifier as SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


@asynccontextmanager
async def connect(
    url: str, schema: str, timeout_s: float, *, command_timeout_s: float | None = None, **session: str
) -> AsyncIterator[Connection]:
    """Hold a connection that is in no pool, with further settings of its session; raises EdgeError 503."""
    with connecting():
        connection = await asyncpg.connect(
            url,
            timeout=timeout_s,
            command_timeout=command_timeout_s,
            server_settings=server_settings(schema) | session,
        )
    try:
        with connected(connection):
            yield connection
    finally:
        # What has become of the block is told, and not that its connection could not be closed in form.
        with suppress(*AWAY):
            await connection.close(timeout=timeout_s)


@contextmanager
def connecting() -> Iterator[None]:
    """Map whatever prevents that a connection is made or taken to `database_unavailable`."""
    try:
        yield
    except AWAY as error:
        raise unavailable() from error


@contextmanager
def connected(connection: Connection) -> Iterator[None]:
    """Map a lost connection, time-outs and a server in need to `database_unavailable`; other exceptions pass."""
    try:
        yield
    except (TimeoutError, asyncpg.LockNotAvailableError, *_UNABLE) as error:
        raise unavailable() from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if _is_lost(connection):
            raise unavailable() from error
        raise


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # Its pool has taken a lost connection back, and then it answers no question.
        return True


def unavailable() -> EdgeError:
    """Return the error of a caller whose request needs a database that is away."""
    return EdgeError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database_unavailable",
        "The database is away or too busy at the moment.",
        retry_after_s=_RETRY_AFTER_S,
    )
