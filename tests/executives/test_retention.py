"""What becomes of records in time."""

import asyncio
import json
from datetime import timedelta

from handlers.executives.service import Executives
from sovren_edge.handler import Database, Edge
from tests.executives.board import NOON, Hands, open_board
from tests.relay.harness import PATIENCE_S

OLD = NOON - timedelta(days=11)
YOUNG = NOON - timedelta(days=9)
WRITE = """
WITH session AS (
    INSERT INTO executive_sessions (session_id, subscriber_id, executive_id, created_at, used_at)
    VALUES (gen_random_uuid(), 'founder', $1, $2, $2)
), activity AS (
    INSERT INTO executive_activity (subscriber_id, executive_id, action, happened_at)
    VALUES ('founder', $1, 'interaction', $2)
), usage AS (
    INSERT INTO executive_usage (subscriber_id, executive_id, action, model, audio_ms, answered_at)
    VALUES ('founder', $1, 'interaction', 'm', 0, $2)
), answer AS (
    INSERT INTO executive_answers (subscriber_id, idempotency_key, fingerprint, answer, answered_at)
    VALUES ('founder', $1, '', '{}', $3)
)
INSERT INTO executive_approvals (
    approval_id, subscriber_id, executive_id, action, type, risk, created_at, expires_at
) VALUES (gen_random_uuid(), 'founder', $1, 'Do it.', 'hiring', 'low', $2::timestamptz, $2::timestamptz + '1 hour')
"""
MANY = """
INSERT INTO executive_activity (subscriber_id, executive_id, action, happened_at)
SELECT 'founder', 'cfo', 'interaction', $1 FROM generate_series(1, 2000)
"""
LEFT = """
SELECT string_agg(executive_id, ' ' ORDER BY executive_id) FROM (
    SELECT executive_id FROM executive_sessions
    UNION ALL SELECT executive_id FROM executive_activity
    UNION ALL SELECT executive_id FROM executive_usage
    UNION ALL SELECT idempotency_key FROM executive_answers
    UNION ALL SELECT executive_id FROM executive_approvals
) AS rows
"""


async def test_what_is_old_is_removed(edge: Edge, database: Database, hands: Hands) -> None:
    """Each in its time; approvals stay, as who decided what."""
    await database.execute(WRITE, "cfo", OLD, NOON - timedelta(days=1))
    await database.execute(MANY, OLD)
    await database.execute(WRITE, "ceo", YOUNG, NOON - timedelta(hours=23))
    settings = json.dumps({"session_days": 10, "records_days": 10})
    async with open_board(Executives.model_validate_json(settings), edge, database, hands), asyncio.timeout(PATIENCE_S):
        while await database.fetchval(LEFT) != "ceo ceo ceo ceo ceo cfo":  # noqa: ASYNC110 - a sweep has no event
            await asyncio.sleep(0.01)
