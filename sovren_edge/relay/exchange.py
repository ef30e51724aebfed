"""Owns one request from its head to the last byte of its answer: body, admission, attempts, answer, and its end.

A lease is held from the choice of an endpoint to the end of its attempt and released exactly once. No answer is begun
before a slot is held. Must not know how bytes are read off either connection.
"""

from typing import TYPE_CHECKING

from pools.admission import Lease, Outcome, Refusal, Waiter
from pools.pool import NOBODY
from sovren_edge.errors import Problem, Side
from sovren_edge.http.answer import CONTINUE, problem_answer
from sovren_edge.http.framing import LAST_CHUNK, BodyReader, ChunkedReader, UntilCloseReader, chunk
from sovren_edge.http.request import IDEMPOTENT, RequestHead, forward_request
from sovren_edge.http.response import ResponseHead, forward_response
from sovren_edge.observe.log import Access
from sovren_edge.relay.relay import RETRY_AFTER_S

if TYPE_CHECKING:
    import asyncio

    from pools.endpoint import Endpoint
    from sovren_edge.observe.stats import EndpointStats
    from sovren_edge.relay.downstream import Downstream
    from sovren_edge.relay.relay import Door, Relay
    from sovren_edge.relay.upstream import Upstream

LEFT_STATUS = 499
SERVER_ERROR = 500

REFUSALS = {
    Refusal.QUEUE_FULL: "Every slot is taken and the queue is full.",
    Refusal.QUEUE_TIMEOUT: "No slot became free in time.",
    Refusal.NO_ENDPOINT: "No endpoint of this service is ready.",
}


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_answered_at",
        "_attempts",
        "_body",
        "_body_complete",
        "_chunked_answer",
        "_close",
        "_connecting",
        "_door",
        "_downstream",
        "_ended",
        "_endpoint",
        "_first_body_at",
        "_kept_whole",
        "_lease",
        "_outgoing",
        "_queue_s",
        "_received",
        "_relay",
        "_repeated",
        "_request",
        "_sent",
        "_stale",
        "_started_at",
        "_stats",
        "_status",
        "_streaming",
        "_tried",
        "_upstream",
        "_waiter",
    )  # fmt: skip

    def __init__(
        self, relay: "Relay", door: "Door", downstream: "Downstream", request: RequestHead, now: float
    ) -> None:
        self._relay = relay
        self._door = door
        self._downstream = downstream
        self._request = request
        self._started_at = now
        # The request's body: kept whole while it is small, so that it can be sent again.
        self._body: list[bytes] = []
        self._received = 0
        self._body_complete = request.bodiless
        self._kept_whole = request.chunked or request.length <= relay.settings.kept_body_limit
        self._streaming = False
        # Attempts.
        self._tried: frozenset[Endpoint] = NOBODY
        self._attempts = 0
        self._endpoint = ""
        self._stats: EndpointStats
        self._repeated = False
        self._stale = False
        self._waiter: Waiter | None = None
        self._lease: Lease | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        # The answer.
        self._status = 0
        self._answered_at = 0.0
        self._first_body_at = 0.0
        self._queue_s = 0.0
        self._chunked_answer = False
        self._close = not request.keep_alive or not request.minor
        self._sent = 0
        # What is to be written when the bytes that have come are read: a system call costs more than a join.
        self._outgoing: list[bytes] = []
        self._ended = False

    # --- the request's body

    def start(self) -> None:
        """Ask for a slot as soon as the body is kept, or at once when it is too large for that."""
        if self._body_complete:
            self._admit()
        elif self._kept_whole:
            self._relay.timers.idle.start(self, self._started_at)
            self._continue()
        else:
            self._hold_body()

    def take_body(self, pieces: list[bytes]) -> None:
        """Take some of the request's body."""
        self._received += sum(map(len, pieces))
        self._relay.timers.idle.start(self, self._relay.now())
        if self._streaming:
            self._send_body(pieces)
            return
        self._body.extend(pieces)
        if self._kept_whole and self._received > self._relay.settings.kept_body_limit:
            self._kept_whole = False
            self._hold_body()

    def end_body(self) -> None:
        """Take note that the request is complete."""
        waited_for_all = self._kept_whole and not self._body_complete
        self._body_complete = True
        self._relay.timers.idle.stop(self)
        if waited_for_all:
            self._admit()
        elif self._streaming and self._upstream is not None:
            if self._request.chunked:
                self._upstream.write(LAST_CHUNK)
            self._await_answer()

    def body_broken(self, detail: str) -> None:
        """Refuse a request whose body cannot be read."""
        self._fail(Problem(400, "malformed_body", detail, Side.CALLER), Outcome.LEFT)

    def _hold_body(self) -> None:
        """Read no more of a large body before a slot is held."""
        self._relay.timers.idle.stop(self)
        self._downstream.pause(paused=True)
        self._admit()

    def _continue(self) -> None:
        if self._request.expects:
            self._request.expects = False
            self._downstream.write(CONTINUE)

    def _send_body(self, pieces: list[bytes]) -> None:
        if self._upstream is not None:
            self._upstream.writelines(chunk(pieces) if self._request.chunked else pieces)

    # --- admission: pools answer at once, or later through these three

    def granted(self, lease: Lease) -> None:
        """Take a slot; see relay.Owner."""
        self._leave_queue()
        self._attempt(lease)

    def displaced(self) -> None:
        """Look for another tier; see relay.Owner."""
        self._leave_queue()
        self._admit()

    def refused(self, refusal: Refusal) -> None:
        """Answer that nobody can serve now; see relay.Owner."""
        self._leave_queue()
        for pool in self._door.tiers.pools[:1]:
            self._relay.stats_of(pool).refusals[refusal] += 1
        retry_after_s = 1 + self._relay.roll(RETRY_AFTER_S)
        self._fail(Problem(503, refusal, REFUSALS[refusal], Side.EDGE, retry_after_s), Outcome.LEFT)

    def _admit(self) -> None:
        admission = self._door.tiers.admit(self, self._relay.now(), self._tried)
        if isinstance(admission, Lease):
            self._attempt(admission)
        elif isinstance(admission, Waiter):
            self._waiter = admission
        else:
            self.refused(admission)

    def _leave_queue(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._queue_s += self._relay.now() - waiter.since

    # --- attempts

    def _attempt(self, lease: Lease) -> None:
        self._lease = lease
        self._attempts += 1
        self._endpoint = lease.endpoint.name
        stats = self._relay.stats_of(lease.pool)
        self._stats = stats.endpoints[lease.endpoint.name]
        if self._attempts == 1:
            stats.queue_wait.observe(self._queue_s)
        upstream = self._relay.connections.take(lease.endpoint)
        if upstream is not None:
            self._send(upstream, lease)
        else:
            self._connecting = self._relay.spawn(self._connect(lease))

    async def _connect(self, lease: Lease) -> None:
        try:
            upstream = await self._relay.connections.connect(lease.endpoint)
        except OSError:
            self._connecting = None
            # Costs no budget: nothing was sent. Each other ready endpoint is tried once.
            self._tried |= {lease.endpoint}
            self._relay.connections.forget(lease.endpoint)
            self._release(Outcome.REFUSED)
            self._admit()
        else:
            self._connecting = None
            self._send(upstream, lease)

    def _send(self, upstream: "Upstream", lease: Lease) -> None:
        request = self._request
        self._upstream = upstream
        upstream.begin(self, request.method)
        whole = self._body_complete or not request.chunked
        head = forward_request(
            request,
            peer=self._downstream.address.encode(),
            scheme=self._door.scheme,
            endpoint=lease.endpoint.address,
            body_size=(request.length or self._received) if whole else None,
            request_id=request.request_id.encode(),
        )
        if self._body_complete:
            upstream.write(b"".join((head, *self._body)) if self._body else head)
            self._await_answer()
            return
        self._streaming = True
        upstream.write(head)
        pieces, self._body = self._body, []
        if pieces:
            self._send_body(pieces)
        self._relay.timers.idle.start(self, self._relay.now())
        self._continue()
        self._downstream.pause(paused=False)

    def _await_answer(self) -> None:
        if not self._status:
            self._relay.timers.first_byte.start(self, self._relay.now())

    def _release(self, outcome: Outcome) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        self._stats.attempts[outcome] += 1
        now = self._relay.now()
        if outcome is Outcome.SUCCEEDED:
            self._stats.duration.observe(now - self._started_at)
        self._relay.release(lease, outcome, now)

    # --- the answer: told by the upstream connection

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx, but for 100, which we have answered ourselves."""
        if self._request.minor and head.status > 100:  # noqa: PLR2004 - 100 Continue
            self._outgoing.append(
                forward_response(head, request_id=self._request.request_id.encode(), chunked=False, close=False)
            )

    def answered(self, head: ResponseHead, reader: BodyReader) -> None:
        """Begin the answer to the caller."""
        relay, lease = self._relay, self._lease
        self._answered_at = now = relay.now()
        relay.timers.first_byte.stop(self)
        relay.timers.idle.start(self, now)
        self._status = head.status
        if lease is not None:
            lease.endpoint.active_at = now
        unsized = isinstance(reader, ChunkedReader | UntilCloseReader)
        self._chunked_answer = unsized and self._request.minor > 0
        self._close = self._close or relay.draining or not self._body_complete
        self._outgoing.append(
            forward_response(
                head,
                request_id=self._request.request_id.encode(),
                chunked=self._chunked_answer,
                close=self._close,
            )
        )

    def body(self, pieces: list[bytes]) -> None:
        """Pass on some of the answer's body."""
        relay, lease = self._relay, self._lease
        now = relay.now()
        relay.timers.idle.start(self, now)
        if lease is not None:
            lease.endpoint.active_at = now
            if not self._sent and self._status < SERVER_ERROR:
                self._first_body_at = now
                self._stats.ttfa.observe(now - self._started_at)
        self._sent += sum(map(len, pieces))
        self._outgoing += chunk(pieces) if self._chunked_answer else pieces

    def flush(self) -> None:
        """Send on what has come."""
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._downstream.send(outgoing)

    def ended(self) -> None:
        """End a whole answer."""
        upstream, self._upstream = self._upstream, None
        if self._chunked_answer:
            self._outgoing.append(LAST_CHUNK)
        self.flush()
        if not self._body_complete and upstream is not None:
            # Answered before the request was sent: the connection is in the middle of a body.
            self._relay.connections.discard(upstream)
        self._release(Outcome.FAILED if self._status >= SERVER_ERROR else Outcome.SUCCEEDED)
        self._finish("complete")
        self._downstream.finish(close=self._close)

    def broken(self, reason: str) -> None:
        """Repeat elsewhere what no byte has answered; otherwise end the caller's answer as broken."""
        upstream, self._upstream = self._upstream, None
        self._relay.timers.first_byte.stop(self)
        self._relay.timers.idle.stop(self)
        if self._status:
            self._break(reason)
            return
        lease = self._lease
        if lease is not None and upstream is not None and self._may_repeat(lease, upstream):
            self._relay.connections.forget(lease.endpoint)
            self._relay.stats_of(lease.pool).retries += 1
            self._release(Outcome.FAILED if self._repeated else Outcome.LEFT)
            self._admit()
        else:
            self._fail(
                Problem(502, "upstream_failed", f"The endpoint did not answer: {reason}.", Side.UPSTREAM),
                Outcome.FAILED,
            )

    def upstream_paused(self, *, paused: bool) -> None:
        """Read no more from the caller while the endpoint is slow to read."""
        self._downstream.pause(paused=paused)

    def _may_repeat(self, lease: Lease, upstream: "Upstream") -> bool:
        """Whether to send the request again after an attempt that brought no byte of an answer."""
        if self._streaming or not (lease.pool.settings.repeatable or self._request.method in IDEMPOTENT):
            return False
        if upstream.used and not self._stale:
            # A kept connection that was closed under our feet says nothing about the endpoint.
            self._stale = True
            return True
        if self._repeated or not lease.pool.budget.take(self._relay.now()):
            return False
        self._repeated = True
        tried = self._tried | {lease.endpoint}
        if self._door.tiers.can_serve(tried):
            self._tried = tried
        # Otherwise there is no elsewhere: the same endpoint answers now, or refuses to connect and is known as down.
        return True

    def _break(self, reason: str) -> None:
        self.flush()
        self._release(Outcome.FAILED)
        self._finish(f"upstream broke: {reason}")
        if self._request.minor:
            self._downstream.close_broken()
        else:
            # An HTTP/1.0 caller takes any orderly close for the end.
            self._downstream.abort()

    # --- the caller

    def caller_left(self) -> None:
        """End the work at once, wherever it stands."""
        if self._ended:
            return
        self._door.stats.callers_left += 1
        self._stop_attempt(Outcome.LEFT)
        self._finish("caller left")

    def caller_paused(self, *, paused: bool) -> None:
        """Read no more from the endpoint while the caller is slow to read."""
        if self._upstream is not None:
            self._upstream.pause(paused=paused)

    def first_byte_timed_out(self) -> None:
        """Answer that the endpoint did not."""
        self._fail(
            Problem(504, "upstream_timeout", "The endpoint did not answer in time.", Side.UPSTREAM), Outcome.FAILED
        )

    def idle_timed_out(self) -> None:
        """End an exchange in which no byte moves any more."""
        if self._status:
            self._stop_upstream()
            self._break("no byte moved for too long")
        else:
            self._fail(
                Problem(408, "body_timeout", "The request's body did not arrive in time.", Side.CALLER), Outcome.LEFT
            )

    # --- the end

    def _fail(self, problem: Problem, outcome: Outcome) -> None:
        """Answer with an error of ours, or break an answer that has begun."""
        begun = bool(self._status)
        self._stop_attempt(outcome)
        if begun:
            self._finish(problem.reason)
            self._downstream.close_broken()
            return
        self._status = problem.status
        answer = problem_answer(problem, self._request.request_id)
        self._sent = len(answer.body)
        self._finish(problem.reason)
        close = self._close or not self._body_complete or self._relay.draining
        self._downstream.answer(answer, self._request, close=close)

    def _stop_attempt(self, outcome: Outcome) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.pool.leave(waiter)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._stop_upstream()
        self._release(outcome)

    def _stop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._relay.connections.discard(upstream)

    def _finish(self, ended: str) -> None:
        self._ended = True
        relay = self._relay
        relay.timers.first_byte.stop(self)
        relay.timers.idle.stop(self)
        now = relay.now()
        stats = self._door.stats
        status = self._status or LEFT_STATUS
        stats.count(self._request.method, status, now - self._started_at)
        stats.relayed.observe(now - self._started_at)
        if stats.speech and (ended != "complete" or status >= SERVER_ERROR):
            stats.speech_failed += 1
        if relay.log_access is not None:
            relay.log_access(self._access(ended, status, now))

    def _access(self, ended: str, status: int, now: float) -> Access:
        request = self._request
        first = (self._first_body_at or self._answered_at or now) - self._started_at
        return Access(
            self._relay.wall(), self._door.name, self._downstream.address, request.method,
            request.path, status, request.request_id, self._endpoint, self._attempts, self._queue_s, first,
            now - self._started_at, self._received, self._sent, ended,
        )  # fmt: skip
