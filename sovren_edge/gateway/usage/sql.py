"""Owns the statements that usage is read by, all of one subscriber and one period.

A row of a flood stands for `count` requests. Buckets come in as an array of their starts, so that no time zone is
PostgreSQL's business. A row's cost is beside it; the costs of a period are read of their own as well, since they
outlive the rows.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sovren_edge.gateway.usage.terms import Key, Terms
from sovren_edge.gateway.usage.told import COUNTED, Point
from sovren_edge.store.connection import Connection, Row

# A period of years may take its time.
TIMEOUT_S = 60.0
# Rows that are in memory at once.
PREFETCH = 500

_SUMS = """
    coalesce(sum(request.count), 0)::bigint AS requests,
    count(request.upstream_status) AS forwarded,
    coalesce(sum(request.count) FILTER (WHERE request.decision = 'refused'), 0)::bigint AS refused,
    count(*) FILTER (WHERE request.idempotent_replay) AS replayed,
    count(*) FILTER (WHERE request.decision = 'unknown') AS unknown,
    count(*) FILTER (WHERE request.decision = 'reserved') AS in_flight,
    count(*) FILTER (WHERE request.would_deny <> '') AS would_deny,
    coalesce(sum(cardinality(array_remove(request.granted_us, NULL))), 0)::bigint AS grants,
    coalesce(sum(request.bytes_in), 0)::bigint AS bytes_in,
    coalesce(sum(request.bytes_out), 0)::bigint AS bytes_out,
    coalesce(sum(cost.amount_microusd), 0)::bigint AS cost_microusd
"""
_ROWS = """
FROM api_requests request LEFT JOIN api_costs cost
    ON cost.request_id = request.request_id
    AND cost.subscriber_id = $1 AND cost.created_at >= $2 AND cost.created_at < $3
WHERE request.subscriber_id = $1 AND request.created_at >= $2 AND request.created_at < $3
"""
_SUMMARY = f"""
SELECT grouping(request.service, request.status, request.reason) AS of,
    request.service, request.status, request.reason, {_SUMS} {_ROWS}
GROUP BY GROUPING SETS ((), (request.service), (request.status), (request.reason))
ORDER BY requests DESC, request.service, request.status, request.reason
"""
_SERIES = f"""
SELECT * FROM (
    SELECT width_bucket(request.created_at, $4::timestamptz[]) AS bucket,
        CASE WHEN $5 THEN request.service ELSE '' END AS service,
        CASE WHEN $6 THEN coalesce(request.status, 0) ELSE 0 END AS status, {_SUMS} {_ROWS}
    GROUP BY 1, 2, 3
) series
WHERE (bucket, service, status) > ($7, $8, $9)
ORDER BY bucket, service, status LIMIT $10
"""  # noqa: S608 - nothing in it comes from elsewhere
_COSTS = """
SELECT service, sum(amount_microusd)::bigint AS amount_microusd, count(*) FILTER (WHERE source = 'unpriced') AS unpriced
FROM api_costs WHERE subscriber_id = $1 AND created_at >= $2 AND created_at < $3
GROUP BY service ORDER BY service
"""


async def read_summary(connection: Connection, subscriber: str, terms: Terms) -> list[Row]:
    """Return the sums of the whole period, of each service, of each status and of each reason, told apart by `of`."""
    period = subscriber, terms.since, terms.until
    return [row async for row in connection.cursor(_SUMMARY, *period, prefetch=PREFETCH, timeout=TIMEOUT_S)]


async def read_costs(connection: Connection, subscriber: str, terms: Terms) -> list[Row]:
    """Return what each service has cost."""
    period = subscriber, terms.since, terms.until
    return [row async for row in connection.cursor(_COSTS, *period, prefetch=PREFETCH, timeout=TIMEOUT_S)]


async def read_series(
    connection: Connection, subscriber: str, terms: Terms, buckets: Sequence[datetime], limit: int | None
) -> AsyncIterator[Point]:
    """Yield the rows of the series as they are asked for."""
    after = terms.after or Key(buckets[0])
    # What lies before the page is not added up again.
    since = max(terms.since, after.start)
    left = [bucket for bucket in buckets if bucket >= after.start]
    groups = "service" in terms.groups, "status" in terms.groups
    parameters = (subscriber, since, terms.until, left, *groups, int(terms.after is not None), after.service)
    rows = connection.cursor(_SERIES, *parameters, after.status, limit, prefetch=PREFETCH, timeout=TIMEOUT_S)
    async for row in rows:
        yield _point(row, left)


def _point(row: Row, buckets: Sequence[datetime]) -> Point:
    sums: dict[str, Any] = {name: row[name] for name in COUNTED}
    return Point(Key(buckets[row["bucket"] - 1], row["service"], row["status"]), sums)
