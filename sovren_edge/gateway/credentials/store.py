"""Owns how credentials stand in the database: sealed, one for a subscriber, a service and exactly one host.

Must not know when one is used or refreshed, nor what OAuth is beyond the values that are kept of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import orjson

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.sealing import Sealer, SealError
from sovren_edge.store.connection import Connection, Row
from sovren_edge.store.database import Database

_OF = "WHERE subscriber_id = $1 AND service = $2 AND host = $3"
_READ = f"SELECT subscriber_id, service, host, kind, header, sealed FROM credentials {_OF}"  # noqa: S608 - no input
# Whoever finds it locked learns so at once: waiting would hold a connection for as long as a server takes to answer.
_LOCK = f"{_READ} FOR UPDATE SKIP LOCKED"
_PUT = """
INSERT INTO credentials (subscriber_id, service, host, kind, header, sealed, key_name)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (subscriber_id, service, host) DO UPDATE SET
    kind = excluded.kind, header = excluded.header, sealed = excluded.sealed, key_name = excluded.key_name,
    updated_at = clock_timestamp()
"""
_RESEAL = f"UPDATE credentials SET sealed = $4, key_name = $5 {_OF}"  # noqa: S608 - no input
_REMOVE = f"DELETE FROM credentials {_OF} RETURNING true"  # noqa: S608 - no input
_LIST = """
SELECT subscriber_id AS subscriber, service, host, kind, header, key_name AS key, updated_at FROM credentials
WHERE $1 = '' OR subscriber_id = $1 ORDER BY subscriber_id, service, host
"""
_OLD = "SELECT subscriber_id, service, host FROM credentials WHERE key_name <> $1 ORDER BY subscriber_id, service, host"


UNREADABLE = "credential_unreadable"


class Purpose(NamedTuple):
    """What a credential is for: the host is exact, in lower case."""

    subscriber: str
    service: str
    host: str


@dataclass(frozen=True, slots=True)
class HeaderSecret:
    """A field's value that stays as it is."""

    value: str = field(repr=False)


Secret = HeaderSecret | OAuthSecret
KINDS: dict[str, type[Secret]] = {"header": HeaderSecret, "oauth": OAuthSecret}


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it stands, with the header that carries its secret; that is opened only where it is used."""

    purpose: Purpose
    kind: str
    header: str
    sealed: bytes = field(repr=False)


def kind_of(secret: Secret) -> str:
    """Return the word for a kind of secret."""
    return next(kind for kind, found in KINDS.items() if isinstance(secret, found))


def unreadable(why: str) -> EdgeError:
    """Return the error of a caller whose credential does not open."""
    return EdgeError(503, UNREADABLE, f"The stored credential cannot be read: {why}.")


class CredentialStore:
    """Reads and writes rows, by a database or within a transaction; without a sealer, every secret is unreadable."""

    def __init__(self, sealer: Callable[[], Sealer | None]) -> None:
        self._sealer = sealer

    async def read(self, on: Database | Connection, purpose: Purpose) -> Stored | None:
        """Return what is stored, if anything is."""
        return _stored(await on.fetchrow(_READ, *purpose))

    async def lock(self, on: Connection, purpose: Purpose) -> Stored | None:
        """Return what is stored and keep others from changing it, or None if somebody else does so, or nothing is."""
        return _stored(await on.fetchrow(_LOCK, *purpose))

    async def put(self, on: Database | Connection, purpose: Purpose, header: str, secret: Secret) -> Stored:
        """Store a secret in the place of any other for this purpose; ValueError without a sealer."""
        sealer = self._require_sealer()
        stored = Stored(purpose, kind_of(secret), header, self._seal(purpose, header, secret))
        await on.execute(_PUT, *purpose, stored.kind, header, stored.sealed, sealer.name)
        return stored

    async def reseal(self, on: Connection, stored: Stored) -> None:
        """Seal a row that is locked again, under the first key; raises EdgeError 503 if it does not open."""
        sealed = self._seal(stored.purpose, stored.header, self.open(stored))
        await on.execute(_RESEAL, *stored.purpose, sealed, self._require_sealer().name)

    async def old(self, on: Database) -> list[Purpose]:
        """Return what is sealed under another key than the first; ValueError without a sealer."""
        return [Purpose(*row.values()) for row in await on.fetch(_OLD, self._require_sealer().name)]

    def open(self, stored: Stored) -> Secret:
        """Return a row's secret; raises EdgeError 503 if it cannot be read."""
        sealer = self._sealer()
        if sealer is None:
            raise unreadable("no keys are configured")
        try:
            opened = sealer.open(stored.sealed, *stored.purpose, stored.kind, stored.header)
            return KINDS[stored.kind](**orjson.loads(opened))
        except SealError as error:
            raise unreadable(str(error)) from None
        except (KeyError, TypeError, ValueError):
            raise unreadable("its form is not known to this program") from None

    def _seal(self, purpose: Purpose, header: str, secret: Secret) -> bytes:
        return self._require_sealer().seal(orjson.dumps(asdict(secret)), *purpose, kind_of(secret), header)

    def _require_sealer(self) -> Sealer:
        sealer = self._sealer()
        if sealer is None:
            raise ValueError("there are no keys to seal a credential with")
        return sealer


async def list_credentials(on: Database, subscriber: str = "") -> Sequence[Row]:
    """Return what is stored for one subscriber, or for all, without any secret."""
    return await on.fetch(_LIST, subscriber)


async def remove_credential(on: Database, purpose: Purpose) -> bool:
    """Remove what is stored; return whether anything was."""
    return bool(await on.fetchval(_REMOVE, *purpose))


def _stored(row: Row | None) -> Stored | None:
    if row is None:
        return None
    purpose = Purpose(row["subscriber_id"], row["service"], row["host"])
    return Stored(purpose, row["kind"], row["header"], row["sealed"])
