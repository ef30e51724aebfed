"""Owns what the ledger remembers of a request: its row, what it cost, and the form in which both are written.

A record is a row as JSON: the journal keeps it as it is, and PostgreSQL reads it in groups. Writing a record twice, or
an older one after a newer one, changes nothing. Must not know databases or files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

Decision = Literal["reserved", "refused", "settled", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request: `created_at` and `request_id` are its key; times are aware, sizes in bytes, `path` has no query.

    `owner` is the process that has it in hand; `settled_at` is set with the last writing. `granted_us` has a place for
    each attempt that was granted, None where the grant was refunded; `count` is 1 but for refusals of a flood.
    """

    request_id: UUID
    created_at: datetime
    owner: str
    subscriber_id: str
    service: str
    method: str
    host: str
    path: str
    decision: Decision
    settled_at: datetime | None = None
    reason: str = ""
    would_deny: str = ""
    grant_charged: bool = False
    granted_us: tuple[int | None, ...] = ()
    clock: str = ""
    idempotent_replay: bool = False
    attempts: int = 0
    count: int = 1
    resolved_ip: str = ""
    status: int | None = None
    upstream_status: int | None = None
    dns_ms: int | None = None
    connect_ms: int | None = None
    ttfb_ms: int | None = None
    total_ms: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What one request cost, in millionths of a US dollar."""

    request_id: UUID
    created_at: datetime
    subscriber_id: str
    service: str
    price_version: str
    unit: Literal["request", "MB"]
    quantity: int
    amount_microusd: int
    source: str


Row = RequestRow | CostRow
Written = dict[str, Any]

_REQUEST, _COST = b"r", b"c"


def encode(row: Row) -> bytes:
    """Return a row as a record."""
    # A zero byte is in no text of PostgreSQL's.
    written = orjson.dumps(row).replace(rb"\u0000", b"")
    return (_REQUEST if isinstance(row, RequestRow) else _COST) + written


@dataclass(frozen=True, slots=True)
class Group:
    """Records that are written together, as JSON arrays: requests and costs."""

    requests: str
    costs: str


def group(records: Iterable[bytes]) -> Group:
    """Put records together; of one request the last one is enough."""
    requests: dict[str, Written] = {}
    costs: list[Written] = []
    for record in records:
        row = orjson.loads(record[1:])
        if record[:1] == _COST:
            costs.append(row)
        elif _is_newer(row, requests.get(row["request_id"])):
            requests[row["request_id"]] = row
    return Group(orjson.dumps(list(requests.values())).decode(), orjson.dumps(costs).decode())


def _is_newer(row: Written, other: Written | None) -> bool:
    if other is None or row["settled_at"] is not None:
        return True
    return other["settled_at"] is None and row["attempts"] > other["attempts"]
