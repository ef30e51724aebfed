"""Owns idempotency keys as they stand in PostgreSQL: what was sent under one is never sent again, whatever dies.

A row is durable before its request is dialled, and says which process has it in hand. How that ended is written when it
ends; what PostgreSQL does not take then is written later, and the key answers 409 meanwhile. A row of ours whose
request is not open was never dialled: it is removed. Must not know how requests are sent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.credentials.sealing import Sealer, SealError
from sovren_edge.gateway.egress.fields import Field
from sovren_edge.gateway.ledger.replays import LONGEST_BODY, Kept, Replay, decode, encode
from sovren_edge.gateway.tasks import lasting
from sovren_edge.store.connection import Connection, Row
from sovren_edge.store.database import Database

SETTLE_S = 5.0
# Rows that are removed at once, and bytes of answers that wait for PostgreSQL.
EXPIRED_MOST, WAITING_MOST = 5000, 64 << 20

_OF = "WHERE subscriber_id = $1 AND service = $2 AND key = $3"
_EXPIRED = "created_at < now() - interval '24 hours'"
_CLAIM = f"""
INSERT INTO idempotency_keys AS known (subscriber_id, service, key, fingerprint, request_id, owner, state)
VALUES ($1, $2, $3, $4, $5, $6, 'running')
ON CONFLICT (subscriber_id, service, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, request_id = excluded.request_id, owner = excluded.owner, state = 'running',
    answer = NULL, created_at = now()
WHERE known.{_EXPIRED}
RETURNING true
"""  # noqa: S608 - no input
_READ = f"SELECT fingerprint, request_id, state, answer FROM idempotency_keys {_OF}"  # noqa: S608 - no input
_END = f"UPDATE idempotency_keys SET state = $5, answer = $6 {_OF} AND request_id = $4"  # noqa: S608 - no input
_FORGET = f"DELETE FROM idempotency_keys {_OF} AND request_id = $4"  # noqa: S608 - no input
_RUNNING = "SELECT request_id FROM idempotency_keys WHERE owner = $1 AND state = 'running'"
_REMOVE = "DELETE FROM idempotency_keys WHERE owner = $1 AND state = 'running' AND request_id = ANY($2)"
_EXPIRE = f"""
DELETE FROM idempotency_keys WHERE (subscriber_id, service, key) IN (
    SELECT subscriber_id, service, key FROM idempotency_keys WHERE {_EXPIRED}
    ORDER BY created_at LIMIT {EXPIRED_MOST} FOR UPDATE SKIP LOCKED)
"""  # noqa: S608 - no input
_DIE = "UPDATE idempotency_keys SET state = 'unknown' WHERE state = 'running' AND owner = $1"


@dataclass(frozen=True, slots=True)
class Begun:
    """A key that is ours: of it, once, `complete`, `forget` or `unknown`."""

    subscriber: str
    service: str
    key: str
    fingerprint: bytes
    request_id: UUID

    @property
    def bound(self) -> tuple[str, ...]:
        """What an answer is sealed for."""
        return "answer", self.subscriber, self.service, self.key, self.fingerprint.hex()


class _Ending(NamedTuple):
    begun: Begun
    state: Literal["kept", "not_kept", "unknown"]
    answer: bytes | None


class Idempotency:
    """Keys of one process, whose rows bear the name `owner`; while there is no sealer, no answers are kept."""

    def __init__(self, database: Database, sealer: Callable[[], Sealer | None], owner: str) -> None:
        self._database = database
        self._sealer = sealer
        self._owner = owner
        # Requests whose rows are not to be removed, and the ends of theirs that PostgreSQL has not acknowledged.
        self._open: set[UUID] = set()
        self._endings: dict[UUID, _Ending] = {}
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """How many requests have ended, and PostgreSQL has not acknowledged how."""
        return len(self._endings)

    async def begin(
        self, subscriber: str, service: str, key: str, fingerprint: bytes, request_id: UUID
    ) -> Begun | Replay:
        """Return that the key is ours now, durably, or what it was answered with.

        Raises EdgeError: 409 if it was used and has no answer to give, 422 if it was used for another request, 503
        while the database is away.
        """
        begun = Begun(subscriber, service, key, fingerprint, request_id)
        self._open.add(request_id)
        try:
            found = await self._claim(begun)
        except BaseException:
            # Perhaps the row was written all the same.
            self._open.discard(request_id)
            raise
        if found is None:
            return begun
        self._open.discard(request_id)
        return self._replay(begun, found)

    async def complete(self, begun: Begun, status: int, reason: str, fields: list[Field], body: bytes | None) -> None:
        """Keep an answer; `body` is None if it is longer than LONGEST_BODY."""
        sealer = self._sealer()
        if body is None or len(body) > LONGEST_BODY or sealer is None or self._waiting_bytes > WAITING_MOST:
            await self._end(_Ending(begun, "not_kept", None))
            return
        answer = sealer.seal(encode(Kept(status, reason, fields, body)), *begun.bound)
        await self._end(_Ending(begun, "kept", answer))

    async def unknown(self, begun: Begun) -> None:
        """Note that the request was sent, or may have been, and that nobody knows its outcome."""
        await self._end(_Ending(begun, "unknown", None))

    async def forget(self, begun: Begun) -> None:
        """Free the key of a request of which nothing was sent."""
        self._open.discard(begun.request_id)
        try:
            await self._database.execute(_FORGET, begun.subscriber, begun.service, begun.key, begun.request_id)
        except EdgeError:
            return  # it is found when PostgreSQL is back

    async def run(self) -> None:
        """Write and remove what could not be before, and what is older than a day, until cancelled."""
        while True:
            await asyncio.sleep(SETTLE_S)
            await self.settle()

    async def settle(self) -> None:
        """Do it once, as far as PostgreSQL is there."""
        for ending in list(self._endings.values()):
            if not await self._write(ending):
                return
        try:
            running = await self._database.fetch(_RUNNING, self._owner)
            # Only what was found is removed: what is begun meanwhile is none of it.
            if lost := {row["request_id"] for row in running} - self._open:
                await self._database.execute(_REMOVE, self._owner, list(lost))
            await self._database.execute(_EXPIRE)
        except EdgeError:
            return

    async def _claim(self, begun: Begun) -> Row | None:
        """Return the row that stands under the key, None if that is ours."""
        key = (begun.subscriber, begun.service, begun.key)
        while not await self._database.fetchval(_CLAIM, *key, begun.fingerprint, begun.request_id, self._owner):
            # None: it was removed in this moment.
            if (found := await self._database.fetchrow(_READ, *key)) is not None:
                return found
        return None

    def _replay(self, begun: Begun, found: Row) -> Replay:
        if found["fingerprint"] != begun.fingerprint:
            raise _refused(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
        match found["state"]:
            case "running":
                raise _refused(409, "idempotency_in_flight", "A request with this key is running.", retry_after_s=1)
            case "unknown":
                detail = "The request with this key may have been sent, and its outcome is not known."
                raise _refused(409, "idempotency_outcome_unknown", detail)
            case "kept" if (answer := self._opened(begun, found["answer"])) is not None:
                return Replay(found["request_id"], answer)
        detail = "The request with this key was answered, and its answer was not kept."
        raise _refused(409, "idempotency_answer_not_kept", detail)

    def _opened(self, begun: Begun, answer: bytes) -> Kept | None:
        """Return a kept answer; None if its key has gone from the configuration."""
        sealer = self._sealer()
        try:
            return None if sealer is None else decode(sealer.open(answer, *begun.bound))
        except SealError:
            return None

    async def _end(self, ending: _Ending) -> None:
        self._endings[ending.begun.request_id] = ending
        self._waiting_bytes += len(ending.answer or b"")
        await self._write(ending)

    async def _write(self, ending: _Ending) -> bool:
        """Write how a request has ended; what cannot be written now, or whose caller leaves, waits for `settle`."""
        begun, state, answer = ending
        key = (begun.subscriber, begun.service, begun.key)
        try:
            await self._database.execute(_END, *key, begun.request_id, state, answer)
        except EdgeError:
            return False
        if self._endings.pop(begun.request_id, None) is not None:
            self._waiting_bytes -= len(answer or b"")
        self._open.discard(begun.request_id)
        return True


def _refused(status: int, reason: str, detail: str, *, retry_after_s: int | None = None) -> EdgeError:
    return EdgeError(status, reason, detail, side=Side.CALLER, retry_after_s=retry_after_s)


async def settle_dead(on: Database | Connection, owner: str) -> None:
    """Note of all that a process had in hand that its outcome is unknown; it must certainly be gone."""
    await on.execute(_DIE, owner)


@asynccontextmanager
async def open_idempotency(
    database: Database, sealer: Callable[[], Sealer | None], owner: str, log: FilteringBoundLogger
) -> AsyncIterator[Idempotency]:
    """Keep keys until the block ends."""
    idempotency = Idempotency(database, sealer, owner)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lasting(idempotency.run, log))
        try:
            yield idempotency
        finally:
            running.cancel()
    await idempotency.settle()
