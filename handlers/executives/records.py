"""Owns what is kept of answers: conversations, what answers cost, and those that were asked for under a key.

Must not know how an answer is made. Whose a session is, is asked before it is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from handlers.executives.activity import NOTE
from handlers.executives.approvals import Approval, write_approval
from handlers.executives.models import Answer
from sovren_edge.handler import Database, EdgeError, Side

KEY_KEPT = timedelta(hours=24)

_SESSION = """
SELECT true FROM executive_sessions WHERE session_id = $1 AND subscriber_id = $2 AND executive_id = $3
"""
_EXCHANGES = """
SELECT question, answer FROM executive_exchanges WHERE session_id = $1 ORDER BY exchange_id DESC LIMIT $2
"""
# To be completed by what stands for these columns.
_USE = """
INSERT INTO executive_usage
    (subscriber_id, executive_id, action, model, prompt_tokens, completion_tokens, audio_ms, answered_at)
VALUES ({})
"""
# All of it or nothing, and in one way to the database and back. What is newly inserted is not seen by the rest of the
# statement: of the older exchanges one less than are to stay is kept.
_KEEP = f"""
WITH session AS (
    INSERT INTO executive_sessions (session_id, subscriber_id, executive_id, created_at, used_at)
    VALUES ($1, $2, $3, $4, $4) ON CONFLICT (session_id) DO UPDATE SET used_at = excluded.used_at
), exchange AS (
    INSERT INTO executive_exchanges (session_id, question, answer, asked_at) VALUES ($1, $5, $6, $4)
), trimmed AS (
    DELETE FROM executive_exchanges WHERE session_id = $1 AND exchange_id NOT IN (
        SELECT exchange_id FROM executive_exchanges
        WHERE session_id = $1 ORDER BY exchange_id DESC LIMIT $7::integer - 1)
), usage AS (
    {_USE.format("$2, $3, $8, $9, $10, $11, $12, $4")}
), activity AS (
    {NOTE.format("$2, $3, $8, $4, jsonb_build_object('sessionId', $1::uuid)")}
)
INSERT INTO executive_answers AS known (subscriber_id, idempotency_key, fingerprint, answer, answered_at)
SELECT $2, $13::text, $14::bytea, $15::jsonb, $4 WHERE $13 IS NOT NULL
ON CONFLICT (subscriber_id, idempotency_key) DO UPDATE SET
    fingerprint = excluded.fingerprint, answer = excluded.answer, answered_at = excluded.answered_at
WHERE known.answered_at <= $16
"""  # noqa: S608 - no input
_COST = _USE.format("$1, $2, $3, $4, $5, $6, $7, $8")
_KEPT = """
SELECT fingerprint, answer FROM executive_answers
WHERE subscriber_id = $1 AND idempotency_key = $2 AND answered_at > $3
"""
# So many at a time: a statement has but seconds. What was renewed meanwhile stays.
_BATCH = 1000
_FORGET = """
DELETE FROM {0} WHERE {1} <= $1 AND ctid = ANY (ARRAY(SELECT ctid FROM {0} WHERE {1} <= $1 LIMIT $2))
"""


@dataclass(frozen=True, slots=True)
class Ages:
    """After what time something is removed: a session that nobody uses, and what was done and has cost."""

    unused: timedelta
    kept: timedelta


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Key:
    """What a caller gives a request, so that it can be sent again; `fingerprint` is of what was asked."""

    value: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer has cost; tokens are None where nobody told them."""

    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    audio_ms: int


class Records:
    """The tables of conversations; `history` is how many exchanges of a session stay."""

    def __init__(self, database: Database, history: int) -> None:
        self._database = database
        self._history = history

    async def exchanges(self, session: UUID, subscriber: str, executive_id: str) -> Sequence[Exchange]:
        """Return a session's newest exchanges, the oldest first; EdgeError 404 if it is none of theirs."""
        if not await self._database.fetchval(_SESSION, session, subscriber, executive_id):
            detail = "You have no session of this id with this executive."
            raise EdgeError(404, "session_unknown", detail, side=Side.CALLER)
        rows = await self._database.fetch(_EXCHANGES, session, self._history)
        return [Exchange(row["question"], row["answer"]) for row in reversed(rows)]

    async def keep(
        self,
        subscriber: str,
        answer: Answer,
        action: str,
        cost: Cost,
        *,
        question: str,
        key: Key | None,
        approval: Approval | None,
    ) -> None:
        """Keep all that is kept of an answer, and what it proposes, or nothing; raises EdgeError 503."""
        at = answer.timestamp
        kept = (
            (None, None, None) if key is None else (key.value, key.fingerprint, answer.model_dump_json(by_alias=True))
        )
        parameters = (
            answer.session_id, subscriber, answer.executive_id, at, question, answer.response, self._history,
            action, cost.model, cost.prompt_tokens, cost.completion_tokens, cost.audio_ms, *kept, at - KEY_KEPT,
        )  # fmt: skip
        if approval is None:
            await self._database.execute(_KEEP, *parameters)
            return
        async with self._database.transaction() as connection:
            await write_approval(connection, subscriber, approval)
            await connection.execute(_KEEP, *parameters)

    async def note_cost(self, subscriber: str, executive_id: str, action: str, cost: Cost, *, at: datetime) -> None:
        """Keep what an answer has cost that came to nothing; raises EdgeError 503."""
        await self._database.execute(
            _COST, subscriber, executive_id, action, cost.model, cost.prompt_tokens, cost.completion_tokens,
            cost.audio_ms, at,
        )  # fmt: skip

    async def answered(self, subscriber: str, key: Key, now: datetime) -> Answer | None:
        """Return what was answered under a key, None if nothing was; EdgeError 422 if it was for something else."""
        row = await self._database.fetchrow(_KEPT, subscriber, key.value, now - KEY_KEPT)
        if row is None:
            return None
        if row["fingerprint"] != key.fingerprint:
            raise key_reused()
        return Answer.model_validate_json(row["answer"])

    async def forget(self, now: datetime, ages: Ages) -> None:
        """Remove what is old, answers under keys after a day; raises EdgeError 503."""
        for table, column, age in (
            ("executive_answers", "answered_at", KEY_KEPT),
            ("executive_sessions", "used_at", ages.unused),
            ("executive_activity", "happened_at", ages.kept),
            ("executive_usage", "answered_at", ages.kept),
        ):
            statement, whole = _FORGET.format(table, column), f"DELETE {_BATCH}"
            while await self._database.execute(statement, now - age, _BATCH) == whole:
                pass


def key_reused() -> EdgeError:
    """Return what is told to whoever gives two requests one key."""
    return EdgeError(
        422, "idempotency_key_reused", "This Idempotency-Key was used for another request.", side=Side.CALLER
    )
