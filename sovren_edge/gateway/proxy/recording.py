"""Owns what is recorded of a request: its rows, one line in the log, and counters.

Must not know what decides about requests.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from aiohttp.web import Response
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.clocks import boot_us
from sovren_edge.gateway.counts import Counts
from sovren_edge.gateway.egress.policy import Target
from sovren_edge.gateway.ledger.ledger import Ledger
from sovren_edge.gateway.ledger.rows import Decision, RequestRow, Row
from sovren_edge.gateway.limit.limiter import Limiter, Quota
from sovren_edge.gateway.money.budgets import Budgets
from sovren_edge.gateway.proxy.answers import own_answer
from sovren_edge.gateway.proxy.call import CALLER_LEFT, Call
from sovren_edge.gateway.proxy.floods import Flood, Floods
from sovren_edge.gateway.proxy.order import Order
from sovren_edge.gateway.proxy.record import Record
from sovren_edge.gateway.proxy.refusals import refused_too_often
from sovren_edge.gateway.proxy.request_ids import RANDOM_BYTES, make_request_id
from sovren_edge.gateway.proxy.sending import Sending
from sovren_edge.gateway.rules import Rulebook
from sovren_edge.handler import Clock
from sovren_edge.observe.tracing import current_trace_id, step

MINUTE_S = 60
# Rows that wait for a ledger that is closed, and how many of them are written together.
UNSETTLED_MOST, AT_ONCE = 20_000, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Records requests in the name of one process, `owner`; services that are not configured are not told of."""

    owner: str
    clock_name: str
    rulebook: Rulebook
    clock: Clock
    ledger: Ledger
    sending: Sending
    budgets: Budgets
    refusals: Limiter
    counts: Counts
    log: FilteringBoundLogger
    floods: Floods = field(default_factory=Floods)
    # Rows that could not be made durable, oldest first.
    unsettled: list[Row] = field(default_factory=list)

    def begin(self, subscriber: str, service: str) -> Call:
        """Return the state of a request that has just come on behalf of a subscriber."""
        self.counts.begun()
        now = self.clock.now()
        row = RequestRow(
            request_id=make_request_id(int(now.timestamp() * 1000), secrets.token_bytes(RANDOM_BYTES)),
            created_at=now,
            owner=self.owner,
            subscriber_id=subscriber,
            service=self._known(service),
            method="",
            host="",
            path="",
            decision="reserved",
            clock=self.clock_name,
            trace_id=current_trace_id(),
        )
        return Call(subscriber=subscriber, service=service, record=Record(row), rules=self.rulebook.present)

    def turn_away(self, service: str, refusal: EdgeError, subscriber: str = "", quota: Quota | None = None) -> Response:
        """Answer a request that is only counted: of nobody who is known, or of a flood."""
        problem, known = refusal.problem, self._known(service)
        minute = int(self.clock.now().timestamp()) // MINUTE_S
        self.floods.count(Flood(subscriber, known, problem.reason, problem.status, minute))
        self.counts.turned_away(known, problem.reason)
        return own_answer(refusal, "", quota, self.sending.grants.now_us())

    def _known(self, service: str) -> str:
        """Return a service's name; one that is not configured is whatever a caller wrote."""
        return service if service in self.rulebook.present.settings.services else ""

    def aimed(self, call: Call, target: Target) -> None:
        """Note where it would go."""
        call.record.row = replace(call.record.row, host=target.host, path=target.path)

    def ordered(self, call: Call, order: Order) -> None:
        """Note what is to be sent."""
        call.record.row = replace(call.record.row, method=order.method, would_deny=order.would_deny)

    def refusal(self, call: Call, error: EdgeError) -> EdgeError:
        """Return what a caller is told: the error, or that it was refused too often."""
        call.failed(error)
        if call.record.reserved or call.counted_only:
            return error
        now_us = boot_us()
        decision = self.refusals.grant(call.subscriber, call.record.request_id, now_us)
        self.refusals.settle(call.subscriber, call.record.request_id)
        return refused_too_often(decision, now_us) or error

    def count(self, call: Call) -> None:
        """Count a refusal that has no row of its own."""
        self.budgets.settle(call.hold, None)
        service = call.record.row.service
        minute = int(call.record.row.created_at.timestamp()) // MINUTE_S
        self.floods.count(Flood(call.subscriber, service, call.reason, call.status, minute))
        self.counts.ended(service, "refused", call.reason)

    async def finish(self, call: Call) -> None:
        """Settle what a request has left open, and record how it ended; never fails."""
        await self.sending.end_grant(call)
        if call.begun and not call.whole and not call.reason:
            call.status, call.reason = CALLER_LEFT, "caller_left"
        row = self._last_row(call)
        cost = call.rules.prices.cost_of(row)
        self.budgets.settle(call.hold, cost)
        await self._write([row] if cost is None else [row, cost])
        await self.sending.tell_key(call)
        self._tell(row, 0 if cost is None else cost.amount_microusd)

    def _last_row(self, call: Call) -> RequestRow:
        call.record.row = replace(
            call.record.row,
            bytes_in=len(call.body),
            idempotent_replay=call.replayed,
        )
        decision: Decision = "settled" if call.record.reserved or call.replayed else "refused"
        return call.record.ended(decision, call.status, call.reason, bytes_out=call.bytes_out, now=self.clock.now())

    def _tell(self, row: RequestRow, amount_microusd: int) -> None:
        self.counts.ended(row.service, row.decision, row.reason)
        if row.ttfb_ms is not None:
            self.counts.upstream_s.labels(row.service).observe(row.ttfb_ms / 1000)
        self.log.info(
            "egress", request_id=str(row.request_id), subscriber=row.subscriber_id, service=row.service,
            method=row.method, host=row.host, decision=row.decision, reason=row.reason,
            would_deny=row.would_deny, status=row.status, upstream_status=row.upstream_status, address=row.resolved_ip,
            attempts=row.attempts, grant_charged=row.grant_charged, replayed=row.idempotent_replay, dns_ms=row.dns_ms,
            connect_ms=row.connect_ms, ttfb_ms=row.ttfb_ms, total_ms=row.total_ms, bytes_in=row.bytes_in,
            bytes_out=row.bytes_out, amount_microusd=amount_microusd, trace_id=row.trace_id,
        )  # fmt: skip

    async def flush(self, *, everything: bool = False) -> None:
        """Write what was counted in the minutes that are over, or all of it, and what could not be written before."""
        minute = None if everything else int(self.clock.now().timestamp()) // MINUTE_S
        taken = self.floods.take(minute)
        rows = [self._flood_row(flood, count) for flood, count in taken.items() if flood.subscriber]
        for flood, count in taken.items():
            self.log.info(
                "egress_refused", subscriber=flood.subscriber, service=flood.service, reason=flood.reason,
                status=flood.status, count=count,
            )  # fmt: skip
        unsettled, self.unsettled[:] = self.unsettled[:], []
        for start in range(0, len(unsettled), AT_ONCE):
            await self._write(unsettled[start : start + AT_ONCE])
        if rows:
            await self._write(rows)

    async def _write(self, rows: Sequence[Row]) -> None:
        """Write rows, or keep them until they can be written: the same row again changes nothing."""
        try:
            with step("ledger write"):
                await self.ledger.write(*rows)
        except EdgeError as error:
            self.unsettled.extend(rows)
            lost = len(self.unsettled) - UNSETTLED_MOST
            if lost > 0:
                self.log.warning("rows_lost", count=lost, why=error.problem.reason)
                del self.unsettled[:lost]

    def _flood_row(self, flood: Flood, count: int) -> RequestRow:
        at = datetime.fromtimestamp(flood.minute * MINUTE_S, UTC)
        return RequestRow(
            request_id=make_request_id(flood.minute * MINUTE_S * 1000, secrets.token_bytes(RANDOM_BYTES)),
            created_at=at, settled_at=at, owner=self.owner, subscriber_id=flood.subscriber, service=flood.service,
            method="", host="", path="", decision="refused", reason=flood.reason, status=flood.status, count=count,
        )  # fmt: skip
