"""Owns how credentials stand in the database: sealed, one for a subscriber, a service and exactly one host.

Must not know when one is used or refreshed, nor what OAuth is beyond the values that are kept of it.
"""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import orjson

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.oauth import OAuthSecret
from sovren_edge.gateway.sealing import Sealer, SealError
from sovren_edge.store.connection import Connection, Row
from sovren_edge.store.database import Database

_READ = """
SELECT subscriber_id, service, host, kind, header, sealed FROM credentials
WHERE subscriber_id = $1 AND service = $2 AND host = $3
"""
# Whoever finds it locked learns so at once: waiting would hold a connection for as long as a server takes to answer.
_LOCK = f"{_READ} FOR UPDATE SKIP LOCKED"
_PUT = """
INSERT INTO credentials (subscriber_id, service, host, kind, header, sealed, key_name)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (subscriber_id, service, host) DO UPDATE SET
    kind = excluded.kind, header = excluded.header, sealed = excluded.sealed, key_name = excluded.key_name,
    updated_at = clock_timestamp()
"""


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
    """A row: the header that carries its secret, and the secret, or why that cannot be read."""

    purpose: Purpose
    header: str
    sealed: bytes = field(repr=False)
    secret: Secret | None = None
    fault: str = ""

    @property
    def readable(self) -> Secret:
        """The secret; raises EdgeError 503 if it cannot be read."""
        if self.secret is None:
            raise EdgeError(503, "credential_unreadable", f"The stored credential cannot be read: {self.fault}.")
        return self.secret


def kind_of(secret: Secret) -> str:
    """Return the word for a kind of secret."""
    return next(kind for kind, found in KINDS.items() if isinstance(secret, found))


class CredentialStore:
    """Reads and writes rows, by a database or within a transaction; without a sealer, every secret is unreadable."""

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer

    async def read(self, on: Database | Connection, purpose: Purpose) -> Stored | None:
        """Return what is stored, if anything is."""
        row = await on.fetchrow(_READ, *purpose)
        return None if row is None else self.opened(row)

    async def lock(self, on: Connection, purpose: Purpose) -> Stored | None:
        """Return what is stored and keep others from changing it, or None if somebody else does so, or nothing is."""
        row = await on.fetchrow(_LOCK, *purpose)
        return None if row is None else self.opened(row)

    async def put(self, on: Database | Connection, purpose: Purpose, header: str, secret: Secret) -> Stored:
        """Store a secret in the place of any other for this purpose; ValueError without a sealer."""
        if self._sealer is None:
            raise ValueError("there are no keys to seal a credential with")
        kind = kind_of(secret)
        sealed = self._sealer.seal(orjson.dumps(asdict(secret)), *purpose, kind, header)
        await on.execute(_PUT, *purpose, kind, header, sealed, self._sealer.name)
        return Stored(purpose, header, sealed, secret)

    def opened(self, row: Row) -> Stored:
        """Return a row with its secret, or with why that cannot be read."""
        purpose = Purpose(row["subscriber_id"], row["service"], row["host"])
        secret, fault = self._open(purpose, row["kind"], row["header"], row["sealed"])
        return Stored(purpose, row["header"], row["sealed"], secret, fault)

    def _open(self, purpose: Purpose, kind: str, header: str, sealed: bytes) -> tuple[Secret | None, str]:
        if self._sealer is None:
            return None, "no keys are configured"
        try:
            return KINDS[kind](**orjson.loads(self._sealer.open(sealed, *purpose, kind, header))), ""
        except SealError as error:
            return None, str(error)
        except (KeyError, TypeError, ValueError):
            return None, "its form is not known to this program"
