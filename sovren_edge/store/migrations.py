"""Owns how migrations reach the database: one transaction each, one migrator at a time, in one schema.

Must not know any table but its own record, `migrations`. A migration names no schema: it sees ours alone, so tables of
the same names elsewhere are out of its reach.
"""

from collections.abc import Sequence

import asyncpg

from sovren_edge.errors import StartupError
from sovren_edge.store.connection import Connection, connect, quoted
from sovren_edge.store.history import Applied, History, Migration, plan, read_migrations, unsuitable

# Any number will do, as long as every version of this program uses the same.
_ADVISORY_LOCK = 0x736F_7672_656E
_CONNECT_TIMEOUT_S = 10.0
_LOCK_TIMEOUT_S = 5
_RECORDS = """
CREATE TABLE IF NOT EXISTS migrations (
    history text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (history, version)
)
"""


async def migrate(url: str, schema: str, histories: Sequence[History]) -> list[str]:
    """Apply what is missing, and return it as `history/file`.

    A failing migration leaves no trace, and those before it stay. Raises StartupError that names the file or the
    lock, and EdgeError 503 if the database is away.
    """
    known = {history.name: read_migrations(history.package) for history in histories}
    done: list[str] = []
    async with connect(url, schema, _CONNECT_TIMEOUT_S) as connection:
        for name, migrations in known.items():
            while (migration := await _apply_next(connection, schema, name, migrations)) is not None:
                done.append(f"{name}/{migration.file}")
    return done


async def check(url: str, schema: str, histories: Sequence[History]) -> list[str]:
    """Return as sentences why the schema is unsuitable: a program works on its own version and on the next.

    Raises EdgeError 503 if the database is away.
    """
    known = {history.name: read_migrations(history.package) for history in histories}
    async with connect(url, schema, _CONNECT_TIMEOUT_S) as connection:
        recorded = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{quoted(schema)}.migrations")
        applied = {name: await _applied(connection, name) if recorded else [] for name in known}
    return [fault for name, migrations in known.items() for fault in unsuitable(name, migrations, applied[name])]


async def _apply_next(
    connection: Connection, schema: str, name: str, migrations: Sequence[Migration]
) -> Migration | None:
    """Apply a history's next migration, if one is missing; what is missing is only known under the lock."""
    async with connection.transaction():
        await _lock(connection)
        await _prepare(connection, schema)
        missing = plan(name, migrations, await _applied(connection, name))
        if not missing:
            return None
        await _apply(connection, name, missing[0])
        # A migration may have changed its session.
        await _see_only(connection, schema)
        await _record(connection, name, missing[0])
        return missing[0]


async def _lock(connection: Connection) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'")
    try:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
    except asyncpg.LockNotAvailableError:
        raise StartupError(
            f"another program is migrating this database (waited {_LOCK_TIMEOUT_S} s): try again when it is done"
        ) from None


async def _prepare(connection: Connection, schema: str) -> None:
    # Asked first, since CREATE SCHEMA needs its privilege even where the schema exists.
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(schema)):
        await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    await _see_only(connection, schema)
    await connection.execute(_RECORDS)


async def _see_only(connection: Connection, schema: str) -> None:
    await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")


async def _apply(connection: Connection, name: str, migration: Migration) -> None:
    where = f"migration {name}/{migration.file}"
    try:
        await connection.execute(migration.sql)
    except asyncpg.LockNotAvailableError:
        raise StartupError(f"{where} waited {_LOCK_TIMEOUT_S} s for a table that is in use: try again later") from None
    except asyncpg.PostgresError as error:
        if connection.is_closed():
            raise
        raise StartupError(f"{where} failed and was rolled back: {error}") from error
    if not connection.is_in_transaction():
        raise StartupError(f"{where} ends the transaction that it runs in: remove its COMMIT or ROLLBACK")


async def _record(connection: Connection, name: str, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO migrations (history, version, name, checksum) VALUES ($1, $2, $3, $4)",
        name,
        migration.version,
        migration.name,
        migration.sha256,
    )


async def _applied(connection: Connection, name: str) -> list[Applied]:
    rows = await connection.fetch("SELECT version, checksum FROM migrations WHERE history = $1 ORDER BY version", name)
    return [Applied(row["version"], row["checksum"]) for row in rows]
