"""Owns the order of work of one request through the gateway, from its caller's token to its last row.

authenticate → policy → body → idempotency → grant → row → dial → stream back → settle. Nothing is decided here but what
comes next. Whatever happens, also when the caller leaves, `_finishing` is done once: a grant that sent nothing is given
back, the row is settled, the idempotency key is told. Must not know how any of it is kept.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp.web import Request, Response, StreamResponse

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.credentials import Credentials
from sovren_edge.gateway.credentials.store import Purpose
from sovren_edge.gateway.egress.policy import Denial
from sovren_edge.gateway.ledger.idempotency import Begun, Idempotency
from sovren_edge.gateway.ledger.replays import fingerprint
from sovren_edge.gateway.limit.limiter import Quota
from sovren_edge.gateway.proxy.answers import own_answer, replayed_answer
from sovren_edge.gateway.proxy.bodies import Bodies
from sovren_edge.gateway.proxy.call import Call
from sovren_edge.gateway.proxy.order import Order, read_aim, read_order, trial
from sovren_edge.gateway.proxy.recording import Recording
from sovren_edge.gateway.proxy.refusals import credential_missing, denied, not_granted
from sovren_edge.gateway.proxy.sending import Sending
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.handler import Edge, RawQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Sends requests; each of its parts owns one decision."""

    edge: Edge
    subscribers: Subscribers
    credentials: Credentials
    idempotency: Idempotency
    bodies: Bodies
    sending: Sending
    recording: Recording
    spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

    async def proxy(self, subscriber_id: str, service: str, url: RawQuery, request: Request) -> StreamResponse:
        """Send a request to an external API on behalf of a subscriber, and return its answer as it comes."""
        try:
            await self.subscribers.admit(await self.edge.authenticate(request), subscriber_id)
        except EdgeError as error:
            return self.recording.turn_away(service, error)
        if (noted := self.sending.grants.noted(subscriber_id)) is not None:
            # A flood of the refused is told so at once: its bodies, URLs and keys are not looked at.
            refusal = not_granted(noted, self.sending.grants.now_us())
            return self.recording.turn_away(service, refusal, subscriber_id, noted.quota)
        call = self.recording.begin(subscriber_id, service)
        return await self._carried(call, url, request)

    async def _carried(self, call: Call, url: RawQuery, request: Request) -> StreamResponse:
        response: StreamResponse | None = None
        try:
            async with AsyncExitStack() as body:
                response = await self._answer(call, url, request, body)
        except EdgeError as error:
            if call.begun:
                call.failed(error)
                raise
            failure = self.recording.refusal(call, error)
            call.failed(failure)
            quota = await self._quota(call)
            response = own_answer(failure, call.record.request_id, quota, self.sending.grants.now_us())
        except Exception as error:
            if not isinstance(error, ConnectionError):
                call.failed(EdgeError(500, "internal_error", "The request met an internal fault."))
            raise
        finally:
            # A caller that leaves cancels this, and what must be done is done all the same.
            finishing = self._finishing(call)
        if finishing is not None and not call.whole:
            # What is refused or failed is on record before its caller knows; an answer that is whole is not held back.
            await asyncio.shield(finishing)
        return response

    async def _answer(self, call: Call, url: RawQuery, request: Request, body: AsyncExitStack) -> StreamResponse:
        order = self._order(call, url, request)
        await self._find_credential(call, order)
        call.body = await body.enter_async_context(self.bodies.take(call.subscriber, request))
        if order.key is not None and (replay := await self._begin(call, order, order.key)):
            return replay
        return await self.sending.send(call, order, request)

    async def _quota(self, call: Call) -> Quota | None:
        """Return what a subscriber has used, if that is known; a flood of refusals asks nobody."""
        if call.quota is None and not call.counted_only:
            with suppress(EdgeError):
                return await self.sending.grants.look(call.subscriber)
        return call.quota

    def _order(self, call: Call, url: RawQuery, request: Request) -> Order:
        target = read_aim(url)
        if isinstance(target, Denial):
            raise denied(target)
        self.recording.aimed(call, target)
        would_deny = trial(target, call.service, call.rules.settings)
        if isinstance(would_deny, Denial):
            raise denied(would_deny)
        order = read_order(target, call.service, list(request.headers.items()), would_deny=would_deny)
        if isinstance(order, Denial):
            raise denied(order)
        self.recording.ordered(call, order)
        return order

    async def _find_credential(self, call: Call, order: Order) -> None:
        call.credential = await self.credentials.find(Purpose(call.subscriber, order.service, order.target.host))
        required = call.rules.settings.services[order.service].credential == "required"
        if call.credential is None and order.authorization is None and required:
            raise credential_missing(order.service, order.target.host)

    async def _begin(self, call: Call, order: Order, key: str) -> Response | None:
        """Take the caller's key; return the answer that was given to it before, if there is one."""
        told = fingerprint(order.method, order.target.url, call.body)
        begun = await self.idempotency.begin(call.subscriber, call.service, key, told, call.record.row.request_id)
        if isinstance(begun, Begun):
            call.key = begun
            return None
        call.replay(begun.answer)
        return replayed_answer(begun, await self._quota(call), self.sending.grants.now_us())

    def _finishing(self, call: Call) -> "asyncio.Task[None] | None":
        if call.counted_only:
            self.recording.count(call)
            return None if call.key is None else self.spawn(self.sending.tell_key(call))
        return self.spawn(self.recording.finish(call))
