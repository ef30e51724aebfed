"""Owns one request from its head to the last byte of its answer: body, admission, attempts, answer, and its end.

A lease is held from the choice of an endpoint to the end of its attempt and released exactly once. No answer is begun
before a slot is held. Must not know how bytes are read off either connection.
"""

from typing import TYPE_CHECKING

from pools.admission import SUCCEEDED, Lease, Outcome, Refusal, Waiter
from pools.demand import UNKNOWN
from pools.health import OURS
from sovren_edge.errors import Problem
from sovren_edge.http.answer import CONTINUE, problem_answer
from sovren_edge.http.request import RequestHead, forward_request
from sovren_edge.http.response import SWITCHED, ResponseHead
from sovren_edge.observe.stats import SERVER_ERROR
from sovren_edge.relay import problems, timeouts
from sovren_edge.relay.attempts import Attempts
from sovren_edge.relay.body import NO_BODY, RequestBody
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.journal import COMPLETE
from sovren_edge.relay.reply import Reply

if TYPE_CHECKING:
    import asyncio

    from sovren_edge.observe.stats import EndpointStats
    from sovren_edge.relay.downstream import Downstream
    from sovren_edge.relay.relay import Door, Relay
    from sovren_edge.relay.upstream import Upstream


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_attempts", "_body", "_connecting", "_demand", "_door", "_downstream", "_ended", "_endpoint", "_expects",
        "_idle_s", "_lease", "_queue_s", "_relay", "_reply", "_request", "_request_id", "_sent_at", "_started_at",
        "_stats", "_total_at", "_upstream", "_waiter",
    )  # fmt: skip

    def __init__(
        self, relay: "Relay", door: "Door", downstream: "Downstream", request: RequestHead, now: float
    ) -> None:
        self._relay = relay
        self._door = door
        self._downstream = downstream
        self._request = request
        self._request_id = request.request_id or next(relay.request_ids)
        self._started_at = now
        self._body = NO_BODY if request.bodiless else RequestBody(request, relay.settings.kept_body_limit)
        self._expects = request.expects
        self._attempts = Attempts()
        self._demand = UNKNOWN
        self._endpoint = ""
        self._waiter: Waiter | None = None
        self._queue_s = self._sent_at = 0.0
        self._lease: Lease | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        self._stats: EndpointStats | None = None
        self._reply = Reply(downstream, request, self._request_id)
        self._ended = False
        self._idle_s = relay.settings.idle_timeout_s
        self._total_at = now + relay.settings.total_timeout_s if relay.settings.total_timeout_s else NEVER

    # --- the request's body

    def start(self, whole: bytes = b"") -> None:
        """Ask for a slot as soon as the body is kept (`whole`: it is at hand), or at once when it is too large."""
        if whole:
            self._body.take_whole(whole)
        if self._body.complete:
            self._ask(self._started_at)
        elif self._body.kept:
            # However slowly it drips, a body that is kept holds memory, and has no slot yet.
            self._wait_until(self._started_at + self._relay.settings.body_timeout_s)
            self._continue()
        else:
            self._hold_body()

    def _wait_until(self, deadline: float) -> None:
        self._downstream.wait_until(min(deadline, self._total_at))

    def take_body(self, pieces: list[bytes]) -> None:
        """Take some of the request's body."""
        was_kept = self._body.kept
        passed_on = self._body.take(pieces)
        if self._body.streaming:
            self._wait_until(self._relay.now() + self._idle_s)
        if passed_on and self._upstream is not None:
            self._upstream.writelines(passed_on)
        elif was_kept and not self._body.kept:
            self._hold_body()

    def end_body(self) -> None:
        """Take note that the request is complete."""
        held_back = not self._body.kept and not self._body.streaming
        last = self._body.end()
        if held_back:
            return  # a slot has been asked for, and what is kept is sent when it comes
        now = self._relay.now()
        if not self._body.streaming:
            self._ask(now)
        elif self._upstream is not None:
            self._upstream.writelines(last)
            if not self._reply.status:
                self._wait_until(now + self._relay.settings.first_byte_timeout_s)

    def body_broken(self, detail: str) -> None:
        """Refuse a request whose body cannot be read."""
        self._fail(problems.malformed_body(detail), Outcome.LEFT)

    def _hold_body(self) -> None:
        """Read no more of a large body before a slot is held."""
        self._downstream.pause(paused=True)
        self._ask(self._relay.now())

    def _continue(self) -> None:
        if self._expects:
            self._expects = False
            self._downstream.write(CONTINUE)

    # --- admission: pools answer at once, or later through these three

    def granted(self, lease: Lease) -> None:
        """Take a slot; see relay.Owner."""
        self._attempt(lease, self._leave_queue())

    def displaced(self) -> None:
        """Look for another tier; see relay.Owner."""
        self._admit(self._leave_queue())

    def refused(self, refusal: Refusal) -> None:
        """Answer that nobody can serve now; see relay.Owner."""
        self._leave_queue()
        for pool in self._door.tiers.pools[:1]:
            self._relay.stats_of(pool).refusals[refusal] += 1
        self._fail(problems.refused(refusal, self._relay.roll(problems.RETRY_AFTER_S)), Outcome.LEFT)

    def _ask(self, now: float) -> None:
        if self._door.read_demand is not None:
            self._demand = self._door.read_demand(
                self._request, self._body.whole, self._downstream.address, self._started_at
            )
        self._admit(now)

    def _admit(self, now: float) -> None:
        admission = self._door.tiers.admit(self, now, self._attempts.tried, self._demand)
        if isinstance(admission, Lease):
            self._attempt(admission, now)
        elif isinstance(admission, Waiter):
            self._waiter = admission
            # Pools tell who has waited too long for a slot.
            self._wait_until(NEVER)
        else:
            self.refused(admission)

    def _leave_queue(self) -> float:
        now = self._relay.now()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._queue_s += now - waiter.since
        return now

    # --- attempts

    def _attempt(self, lease: Lease, now: float) -> None:
        self._lease = lease
        endpoint = lease.endpoint
        self._endpoint = endpoint.name
        stats = self._relay.stats_of(lease.pool)
        self._stats = stats.endpoints[endpoint.name]
        attempts = self._attempts
        if not attempts.count:
            stats.queue_wait.observe(self._queue_s)
        attempts.count += 1
        upstream = self._relay.connections.take(endpoint)
        if upstream is not None:
            self._send(upstream, lease, now)
        else:
            # Connecting has a time-out of its own.
            self._wait_until(NEVER)
            self._connecting = self._relay.spawn(self._connect(lease))

    async def _connect(self, lease: Lease) -> None:
        try:
            upstream = await self._relay.connections.connect(lease.endpoint)
        except OSError as error:
            self._connecting = None
            self._door.stats.timeouts[timeouts.CONNECT] += isinstance(error, TimeoutError)
            if error.errno in OURS:
                self._fail(problems.EXHAUSTED, Outcome.LEFT)
                return
            self._attempts.connect_failed(lease.endpoint)
            self._relay.connections.forget(lease.endpoint)
            now = self._relay.now()
            self._release(Outcome.REFUSED, now)
            self._admit(now)
        else:
            self._connecting = None
            self._send(upstream, lease, self._relay.now())

    def _send(self, upstream: "Upstream", lease: Lease, now: float) -> None:
        request, body = self._request, self._body
        self._upstream = upstream
        self._sent_at = now
        head = forward_request(
            request, caller=self._downstream.caller, endpoint=lease.endpoint.address,
            body_size=0 if body is NO_BODY else body.size, request_id=self._request_id,
        )  # fmt: skip
        upstream.begin(self, request.method, head if body is NO_BODY else b"".join((head, *body.begin())))
        if body.complete:
            self._wait_until(now + self._relay.settings.first_byte_timeout_s)
            return
        self._wait_until(now + self._idle_s)
        self._continue()
        self._downstream.pause(paused=upstream.write_paused)

    def _release(self, outcome: Outcome, now: float) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if self._stats is not None:
            self._stats.attempts[outcome] += 1
            if outcome is SUCCEEDED:
                self._stats.duration.observe(now - self._started_at)
                if lease.estimate_s:
                    error_s = abs(now - lease.since - lease.estimate_s)
                    self._relay.stats_of(lease.pool).estimate_error.observe(error_s)
        self._relay.release(lease, outcome, now)

    # --- the answer: told by the upstream connection

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx; the final answer follows."""
        self._reply.interim(head)

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """Begin the answer to the caller."""
        self._moved(now)
        self._reply.begin(head, now, sized=sized, close=self._relay.draining or not self._body.complete)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """Pass on a whole answer."""
        # It serves others already: should the caller be slow to read, this one is no longer to be held back.
        upstream, self._upstream = self._upstream, None
        self._reply.whole(head, body, now, close=self._relay.draining or not self._body.complete)
        if body:
            self._spoke(now)
        self._served(upstream, now)

    def switched(self, head: ResponseHead, now: float) -> bool:
        """Become a tunnel: both sides are bodies without an end now, and the lease lasts as long as they do."""
        if head.upgrade.lower() != self._request.upgrade.lower() or self._reply.status:
            return False
        self._reply.begin(head, now, sized=True, close=False)
        self._reply.flush()
        self._reply.close = True
        self._idle_s, self._total_at = self._relay.settings.tunnel_timeout_s, NEVER
        self._body = RequestBody(self._request, 0)
        self._body.open()
        self._moved(now)
        self._door.stats.tunnels += 1
        self._downstream.open_tunnel()
        return True

    def caller_closed(self) -> bool:
        """Pass on the end of what the caller sends; return whether it may still get something: only in a tunnel."""
        if self._reply.status != SWITCHED or self._upstream is None:
            return False
        self._upstream.write_eof()
        self._idle_s = self._relay.settings.idle_timeout_s
        self._wait_until(self._relay.now() + self._idle_s)
        return True

    def body(self, pieces: list[bytes], now: float) -> None:
        """Pass on some of the answer's body."""
        if self._reply.began_at != now:
            self._moved(now)
        if self._reply.body(pieces, now):
            self._spoke(now)

    def _spoke(self, now: float) -> None:
        """Take note of the first bytes of the answer's body."""
        if self._reply.status < SERVER_ERROR and self._stats is not None:
            self._stats.ttfa.observe(now - self._started_at)
            if self._lease is not None:
                self._lease.pool.spoke(self._lease, now)

    def _moved(self, now: float) -> None:
        """Take note that bytes came from the endpoint."""
        self._wait_until(now + self._idle_s)
        if self._lease is not None:
            self._lease.endpoint.active_at = now

    def flush(self) -> None:
        """Send on what has come."""
        self._reply.flush()

    def ended(self, now: float) -> None:
        """End a whole answer."""
        upstream, self._upstream = self._upstream, None
        self._reply.end()
        self._served(upstream, now)

    def _served(self, upstream: "Upstream | None", now: float) -> None:
        reply = self._reply
        if not self._body.complete and upstream is not None:
            # Answered before the request was sent: the connection is in the middle of a body.
            self._relay.connections.discard(upstream)
        self._release(Outcome.FAILED if reply.status >= SERVER_ERROR else SUCCEEDED, now)
        self._finish(COMPLETE, now)
        self._downstream.finish(close=reply.close, now=now)

    def broken(self, reason: str) -> None:
        """Repeat elsewhere what no byte has answered; otherwise end the caller's answer as broken."""
        upstream, self._upstream = self._upstream, None
        if self._reply.status:
            self._break(f"upstream broke: {reason}")
            return
        lease, now = self._lease, self._relay.now()
        if lease is not None and upstream is not None and self._may_repeat(lease, upstream, now):
            self._relay.connections.forget(lease.endpoint)
            self._relay.stats_of(lease.pool).retries += 1
            self._release(Outcome.FAILED if self._attempts.repeated else Outcome.LEFT, now)
            self._admit(now)
        else:
            self._fail(problems.upstream_failed(reason), Outcome.FAILED)

    def _may_repeat(self, lease: Lease, upstream: "Upstream", now: float) -> bool:
        kept_for_s = now - self._sent_at if upstream.used else None
        return not self._body.streaming and self._attempts.may_repeat(
            self._request.method, lease, self._door.tiers, now, kept_connection_for_s=kept_for_s
        )

    def upstream_paused(self, *, paused: bool) -> None:
        """Read no more from the caller while the endpoint is slow to read."""
        self._downstream.pause(paused=paused)

    def _break(self, reason: str) -> None:
        self._reply.flush()
        now = self._relay.now()
        self._release(Outcome.FAILED, now)
        self._finish(reason, now)
        # An HTTP/1.0 caller takes any orderly close for the end.
        self._downstream.close_broken(reset=not self._request.minor)

    # --- the caller

    def caller_left(self) -> None:
        """End the work at once, wherever it stands."""
        if self._ended:
            return
        self._door.stats.callers_left += 1
        now = self._relay.now()
        self._stop_attempt(Outcome.LEFT, now)
        self._finish("caller left", now)

    def caller_paused(self, *, paused: bool) -> None:
        """Read no more from the endpoint while the caller is slow to read."""
        if self._upstream is not None:
            if self._lease is not None:
                self._lease.held_back = True
            self._upstream.pause(paused=paused)
            self._wait_until(self._relay.now() + self._relay.settings.idle_timeout_s)

    def timed_out(self, now: float) -> None:
        """End an exchange that has waited too long."""
        sent = self._body.complete or (self._upstream is not None and self._upstream.write_paused)
        late = timeouts.waited_for(self._reply.status, sent=sent, reading=not self._downstream.write_paused)
        if now >= self._total_at:
            late = timeouts.TOTAL
        self._door.stats.timeouts[late.kind] += 1
        self._fail(late.problem, late.outcome)

    # --- the end

    def _fail(self, problem: Problem, outcome: Outcome) -> None:
        """Answer with an error of ours, or break an answer that has begun."""
        now = self._relay.now()
        self._stop_attempt(outcome, now)
        if self._reply.status:
            self._finish(problem.reason, now)
            self._downstream.close_broken(reset=not self._request.minor)
            return
        self._reply.status = problem.status
        request_id = self._request_id.decode()
        answer = problem_answer(problem, request_id)
        self._reply.sent = len(answer.body)
        self._finish(problem.reason, now)
        close = self._reply.close or not self._body.complete or self._relay.draining
        self._downstream.answer(answer, self._request, request_id, close=close, now=now)

    def _stop_attempt(self, outcome: Outcome, now: float) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.pool.leave(waiter)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._relay.connections.discard(upstream)
        self._release(outcome, now)

    def _finish(self, ended: str, now: float) -> None:
        self._ended = True
        reply = self._reply
        if reply.status == SWITCHED:
            self._door.stats.tunnels -= 1
        self._relay.journal.finished(
            self._door, self._downstream.address, self._request, self._request_id, ended, reply.status,
            self._endpoint, self._attempts.count, self._queue_s,
            (reply.body_at or reply.began_at or now) - self._started_at, now - self._started_at,
            self._body.received, reply.sent,
        )  # fmt: skip
