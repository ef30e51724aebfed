"""What tests of costs and usage share: rows as the gateway writes them."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sovren_edge.gateway.ledger.ledger import apply
from sovren_edge.gateway.ledger.rows import CostRow, RequestRow, Row, encode
from sovren_edge.store.database import Database

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def make_row(**changes: Any) -> RequestRow:  # noqa: ANN401 - fields of the row
    """Return a request of noon that was forwarded and has ended."""
    fields = {
        "request_id": uuid4(), "created_at": NOON, "settled_at": NOON, "owner": "g367-1", "subscriber_id": "ann",
        "service": "slack", "method": "POST", "host": "slack.com", "path": "/api", "decision": "settled",
        "grant_charged": True, "granted_us": (1,), "attempts": 1, "status": 200, "upstream_status": 200,
    }  # fmt: skip
    return RequestRow(**(fields | changes))


def make_cost(amount_microusd: int, **changes: Any) -> CostRow:  # noqa: ANN401 - fields of the row
    """Return a cost of noon."""
    fields = {
        "request_id": uuid4(), "created_at": NOON, "subscriber_id": "ann", "service": "slack", "price_version": "1",
        "unit": "request", "quantity": 1, "source": "price",
    }  # fmt: skip
    return CostRow(amount_microusd=amount_microusd, **(fields | changes))


def cost_of(row: RequestRow, amount_microusd: int, **changes: Any) -> CostRow:  # noqa: ANN401 - fields of the row
    """Return what a request has cost."""
    fields = {"request_id": row.request_id, "created_at": row.created_at, "service": row.service}
    return make_cost(amount_microusd, subscriber_id=row.subscriber_id, **(fields | changes))


async def write(database: Database, *rows: Row) -> None:
    """Write rows as the ledger does."""
    await apply(database, [encode(row) for row in rows])
