"""Rows of requests to test with, and waiting for what a server says of them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sovren_edge.gateway.ledger.rows import RequestRow


def reserved(
    owner: str = "g367-1",
    *,
    subscriber: str = "founder",
    granted_us: tuple[int | None, ...] = (1_000_000,),
    clock: str = "boot",
    created_at: datetime | None = None,
    request_id: UUID | None = None,
) -> RequestRow:
    """Return the first writing of a request; by default it is made now."""
    return RequestRow(
        request_id=request_id or uuid4(), created_at=created_at or datetime.now(UTC), owner=owner,
        subscriber_id=subscriber, service="slack", method="POST", host="slack.com", path="/api", decision="reserved",
        grant_charged=True, granted_us=granted_us, clock=clock, attempts=len(granted_us),
    )  # fmt: skip


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Wait until a condition holds that must be asked for."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - a condition of another process
            await asyncio.sleep(0.01)
