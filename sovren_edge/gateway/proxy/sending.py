"""Owns the attempts of one request: a grant and a durable row for each, before anything is sent.

A request is sent again only where its caller allows it, or once with a renewed credential; each attempt that sends
costs one grant. Must not know who calls, or what is settled afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp.web import Request, StreamResponse

from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.gateway.credentials.credentials import Credentials
from sovren_edge.gateway.credentials.store import Purpose
from sovren_edge.gateway.egress.client import TOTAL_S, Answer
from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.proxy_status import ProxyError
from sovren_edge.gateway.ledger.idempotency import Idempotency
from sovren_edge.gateway.ledger.ledger import Ledger
from sovren_edge.gateway.limit.grants import Grants
from sovren_edge.gateway.limit.limiter import Granted
from sovren_edge.gateway.money.budgets import Budgets
from sovren_edge.gateway.proxy.answers import FailedError, forwarded_answer, problem_of
from sovren_edge.gateway.proxy.call import Call
from sovren_edge.gateway.proxy.order import Order
from sovren_edge.gateway.proxy.refusals import not_granted
from sovren_edge.gateway.proxy.retrying import AGAIN, pause_before
from sovren_edge.gateway.proxy.tracing import note_status, upstream_step, with_trace
from sovren_edge.handler import Clock
from sovren_edge.observe.tracing import step

RETRY_AFTER = "retry-after"
LEAST_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Sends requests that nothing is to be said against."""

    grants: Grants
    ledger: Ledger
    budgets: Budgets
    credentials: Credentials
    idempotency: Idempotency
    clock: Clock

    async def send(self, call: Call, order: Order, request: Request) -> StreamResponse:
        """Return upstream's answer, passed on; raises EdgeError: of the limits, of the ledger, or of upstream."""
        call.begun_s = self.clock.monotonic()
        most = 1 + order.retries + (order.safe and call.credential is not None)
        expected = call.rules.prices.expected_microusd(order.service, order.method, order.target.path, most)
        call.hold = await self.budgets.hold(call.subscriber, expected)
        refusal = await self._grant(call)
        if refusal is not None:
            raise refusal
        while True:
            outcome = await self._attempt(call, order, request)
            if isinstance(outcome, StreamResponse):
                return outcome
            await asyncio.sleep(outcome)

    async def _grant(self, call: Call) -> EdgeError | None:
        """Get a grant for the next attempt; return why there is none."""
        grant = call.record.next_grant()
        with step("limiter grant"):
            decision = await self.grants.grant(call.subscriber, grant)
        if not isinstance(decision, Granted):
            call.quota = getattr(decision, "quota", call.quota)
            return not_granted(decision, self.grants.now_us())
        call.granted, call.quota = decision, decision.quota
        call.record.granted(grant, decision.at_us)
        return None

    async def end_grant(self, call: Call) -> None:
        """End the last attempt's grant, if that was not done: it is given back if nothing was sent for it."""
        record = call.record
        if record.open_grant is None:
            return
        if call.sent:
            await self.grants.settle(call.subscriber, record.open_grant)
        else:
            await self.grants.refund(call.subscriber, record.open_grant)
            record.refunded()
        record.open_grant = None
        # The next grant has sent nothing until it has an attempt of its own.
        call.attempt = None

    async def _attempt(self, call: Call, order: Order, request: Request) -> StreamResponse | float:
        """Return an answer that was passed on, or how long to wait before the next attempt, which has its grant."""
        call.attempt = attempt = Attempt()
        await self._reserve(call)
        status: int | None = None
        try:
            async with self._sent(call, order, attempt) as answer:
                status = answer.status
                if (pause_s := await self._again(call, order, answer)) is not None:
                    return pause_s
                return await self._pass_on(call, order, answer, request)
        except EgressError as error:
            again = not call.begun and error.status in AGAIN
            if again and (pause_s := await self._repeat(call, order, ())) is not None:
                return pause_s
            raise FailedError(problem_of(error), error.reason) from None
        finally:
            call.record.tried(attempt, status)

    @asynccontextmanager
    async def _sent(self, call: Call, order: Order, attempt: Attempt) -> AsyncIterator[Answer]:
        with upstream_step(call, order) as span:
            fields = with_trace(call.fields(order), span)
            async with call.rules.egress.send(
                order.target, order.method, fields, call.body, attempt=attempt, total_s=self._left_s(call)
            ) as answer:
                note_status(span, answer.status)
                yield answer

    async def _reserve(self, call: Call) -> None:
        """Have the attempt's row durable, and its grant confirmed after that: only then may it be dialled."""
        record, granted = call.record, call.granted
        if record.open_grant is None or granted is None:
            raise RuntimeError("an attempt without a grant")
        record.reserved = True
        with step("ledger write"):
            await self.ledger.write(record.row)
        with step("limiter confirm"):
            decision = await self.grants.confirm(call.subscriber, record.open_grant, granted)
        if not isinstance(decision, Granted):
            raise not_granted(decision, self.grants.now_us())

    async def _again(self, call: Call, order: Order, answer: Answer) -> float | None:
        """Return how long to wait before the next attempt, if an answer is a reason for one."""
        if answer.status == HTTPStatus.UNAUTHORIZED and await self._renew(call, order):
            return await self._next(call, 0.0)
        if answer.status in AGAIN:
            return await self._repeat(
                call, order, [value for name, value in answer.fields if name.lower() == RETRY_AFTER]
            )
        return None

    async def _renew(self, call: Call, order: Order) -> bool:
        """Whether a stored credential that upstream refuses was renewed; that is tried once."""
        if call.credential is None or call.renewed or not order.safe:
            return False
        call.renewed = True
        purpose = Purpose(call.subscriber, order.service, order.target.host)
        renewed = await self.credentials.renew(purpose, call.credential.value)
        call.credential = renewed or call.credential
        return renewed is not None

    async def _repeat(self, call: Call, order: Order, retry_after: Sequence[str]) -> float | None:
        if call.repeats >= order.retries:
            return None
        elapsed_s = self.clock.monotonic() - call.begun_s
        pause_s = pause_before(call.repeats + 1, retry_after, elapsed_s, self.clock.now())
        if pause_s is None:
            return None
        call.repeats += 1
        return await self._next(call, pause_s)

    async def _next(self, call: Call, pause_s: float) -> float | None:
        """Return the pause if there is a grant for another attempt."""
        await self.end_grant(call)
        try:
            return pause_s if await self._grant(call) is None else None
        except EdgeError:
            # Nobody can tell whether there is a grant: the answer that is at hand is better than none.
            return None

    async def _pass_on(self, call: Call, order: Order, answer: Answer, request: Request) -> StreamResponse:
        if call.quota is None:
            raise RuntimeError("an answer without a grant")
        response = forwarded_answer(answer, order.method, call.record.request_id, call.quota, self.grants.now_us())
        call.answered(answer)
        await response.prepare(request)
        try:
            async with asyncio.timeout(self._left_s(call)):
                await self._stream(call, answer, response)
        except TimeoutError:
            raise _too_slow() from None
        return response

    async def _stream(self, call: Call, answer: Answer, response: StreamResponse) -> None:
        held = b""
        async for piece in answer.body():
            call.keep(piece)
            if call.key is None:
                await response.write(piece)
            elif held:
                await response.write(held)
            held = piece
        call.whole = True
        if call.key is not None:
            # Whoever has the whole answer and sends the key again is to find it.
            await self.tell_key(call)
            await response.write(held)
        await response.write_eof()

    def _left_s(self, call: Call) -> float:
        """Return how long a request may last from now on."""
        # Never nothing: that would mean for ever to the client.
        return max(TOTAL_S - (self.clock.monotonic() - call.begun_s), LEAST_S)

    async def tell_key(self, call: Call) -> None:
        """Say how the request of an idempotency key has ended, if that was not done."""
        key, answer, call.key = call.key, call.answer, None
        if key is None:
            return
        if call.whole and answer is not None:
            kept = None if call.kept is None else bytes(call.kept)
            await self.idempotency.complete(key, answer.status, answer.reason, answer.fields, kept)
        elif call.record.row.grant_charged:
            await self.idempotency.unknown(key)
        else:
            await self.idempotency.forget(key)


def _too_slow() -> FailedError:
    detail = f"The answer was not read within {TOTAL_S:.0f} seconds of its request."
    return FailedError(Problem(504, "caller_too_slow", detail, Side.CALLER), ProxyError.CONNECTION_WRITE_TIMEOUT)
