"""Owns one request from its head to the last byte of its answer: body, admission, attempts, answer, and its end.

A lease is held from the choice of an endpoint to the end of its attempt and released exactly once. No answer is begun
before a slot is held. Must not know how bytes are read off either connection.
"""

from typing import TYPE_CHECKING

from pools.admission import Lease, Outcome, Refusal, Waiter
from pools.health import OURS
from sovren_edge.errors import Problem
from sovren_edge.http.answer import CONTINUE, problem_answer
from sovren_edge.http.framing import LAST_CHUNK, BodyReader, ChunkedReader, UntilCloseReader, chunk
from sovren_edge.http.request import RequestHead, forward_request
from sovren_edge.http.response import ResponseHead, forward_response
from sovren_edge.observe.log import Access
from sovren_edge.observe.stats import CALLER_LEFT, SERVER_ERROR
from sovren_edge.relay import problems
from sovren_edge.relay.attempts import Attempts
from sovren_edge.relay.body import RequestBody
from sovren_edge.relay.deadlines import NEVER

if TYPE_CHECKING:
    import asyncio

    from sovren_edge.observe.stats import EndpointStats
    from sovren_edge.relay.downstream import Downstream
    from sovren_edge.relay.relay import Door, Relay
    from sovren_edge.relay.upstream import Upstream


class Exchange:
    """One request and its answer."""

    # Attempts.
    _endpoint = ""
    _waiter: Waiter | None = None
    _queue_s = 0.0
    _lease: Lease | None = None
    _connecting: "asyncio.Task[None] | None" = None
    _upstream: "Upstream | None" = None
    _sent_at = 0.0
    _stats: "EndpointStats"
    # The answer.
    _status = 0
    _answered_at = 0.0
    _first_body_at = 0.0
    _chunked_answer = False
    _sent = 0
    _ended = False

    def __init__(
        self, relay: "Relay", door: "Door", downstream: "Downstream", request: RequestHead, now: float
    ) -> None:
        self._relay = relay
        self._door = door
        self._downstream = downstream
        self._request = request
        self._request_id = request.request_id.encode()
        self._started_at = now
        self._attempts = Attempts(request.method)
        self._body = RequestBody(request, relay.settings.kept_body_limit)
        self._close = not request.keep_alive or not request.minor
        # What is to be written when the bytes that have come are read: a system call costs more than a join.
        self._outgoing: list[bytes] = []

    # --- the request's body

    def start(self) -> None:
        """Ask for a slot as soon as the body is kept, or at once when it is too large for that."""
        if self._body.complete:
            self._admit(self._started_at)
        elif self._body.kept:
            self._downstream.wait_until(self._started_at + self._relay.settings.idle_timeout_s)
            self._continue()
        else:
            self._hold_body()

    def take_body(self, pieces: list[bytes]) -> None:
        """Take some of the request's body."""
        was_kept = self._body.kept
        passed_on = self._body.take(pieces)
        if self._body.kept or self._body.streaming:
            self._downstream.wait_until(self._relay.now() + self._relay.settings.idle_timeout_s)
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
            self._admit(now)
        elif self._upstream is not None:
            self._upstream.writelines(last)
            self._await_answer(now)

    def body_broken(self, detail: str) -> None:
        """Refuse a request whose body cannot be read."""
        self._fail(problems.malformed_body(detail), Outcome.LEFT)

    def _hold_body(self) -> None:
        """Read no more of a large body before a slot is held."""
        self._downstream.pause(paused=True)
        self._admit(self._relay.now())

    def _continue(self) -> None:
        if self._request.expects:
            self._request.expects = False
            self._downstream.write(CONTINUE)

    # --- admission: pools answer at once, or later through these three

    def granted(self, lease: Lease) -> None:
        """Take a slot; see relay.Owner."""
        self._leave_queue()
        self._attempt(lease)

    def displaced(self) -> None:
        """Look for another tier; see relay.Owner."""
        self._leave_queue()
        self._admit(self._relay.now())

    def refused(self, refusal: Refusal) -> None:
        """Answer that nobody can serve now; see relay.Owner."""
        self._leave_queue()
        for pool in self._door.tiers.pools[:1]:
            self._relay.stats_of(pool).refusals[refusal] += 1
        self._fail(problems.refused(refusal, self._relay.roll(problems.RETRY_AFTER_S)), Outcome.LEFT)

    def _admit(self, now: float) -> None:
        # Pools tell who has waited too long for a slot, and connecting has a time-out of its own.
        self._downstream.wait_until(NEVER)
        admission = self._door.tiers.admit(self, now, self._attempts.tried)
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
        self._attempts.count += 1
        self._endpoint = lease.endpoint.name
        stats = self._relay.stats_of(lease.pool)
        self._stats = stats.endpoints[lease.endpoint.name]
        if self._attempts.count == 1:
            stats.queue_wait.observe(self._queue_s)
        upstream = self._relay.connections.take(lease.endpoint)
        if upstream is not None:
            self._send(upstream, lease)
        else:
            self._connecting = self._relay.spawn(self._connect(lease))

    async def _connect(self, lease: Lease) -> None:
        try:
            upstream = await self._relay.connections.connect(lease.endpoint)
        except OSError as error:
            self._connecting = None
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
            self._send(upstream, lease)

    def _send(self, upstream: "Upstream", lease: Lease) -> None:
        request = self._request
        self._upstream = upstream
        upstream.begin(self, request.method)
        head = forward_request(
            request,
            peer=self._downstream.peer,
            scheme=self._door.scheme,
            endpoint=lease.endpoint.address,
            body_size=self._body.size,
            request_id=self._request_id,
        )
        upstream.write(b"".join((head, *self._body.begin())))
        self._sent_at = now = self._relay.now()
        if self._body.complete:
            self._await_answer(now)
            return
        self._downstream.wait_until(now + self._relay.settings.idle_timeout_s)
        self._continue()
        self._downstream.pause(paused=upstream.write_paused)

    def _await_answer(self, now: float) -> None:
        if not self._status:
            self._downstream.wait_until(now + self._relay.settings.first_byte_timeout_s)

    def _release(self, outcome: Outcome, now: float) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        self._stats.attempts[outcome] += 1
        if outcome is Outcome.SUCCEEDED:
            self._stats.duration.observe(now - self._started_at)
        self._relay.release(lease, outcome, now)

    # --- the answer: told by the upstream connection

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx, but for 100, which we have answered ourselves."""
        if self._request.minor and head.status > 100:  # noqa: PLR2004 - 100 Continue
            self._outgoing.append(forward_response(head, request_id=self._request_id, chunked=False, close=False))

    def answered(self, head: ResponseHead, reader: BodyReader, now: float) -> None:
        """Begin the answer to the caller."""
        self._answered_at = now
        self._status = head.status
        self._moved(now)
        unsized = isinstance(reader, ChunkedReader | UntilCloseReader)
        self._chunked_answer = unsized and self._request.minor > 0
        self._close = self._close or self._relay.draining or not self._body.complete
        self._outgoing.append(
            forward_response(
                head,
                request_id=self._request_id,
                chunked=self._chunked_answer,
                close=self._close,
            )
        )

    def body(self, pieces: list[bytes], now: float) -> None:
        """Pass on some of the answer's body."""
        if self._answered_at != now:
            self._moved(now)
        if not self._sent and self._status < SERVER_ERROR:
            self._first_body_at = now
            self._stats.ttfa.observe(now - self._started_at)
        self._sent += sum(map(len, pieces))
        self._outgoing += chunk(pieces) if self._chunked_answer else pieces

    def _moved(self, now: float) -> None:
        """Take note that bytes came from the endpoint."""
        self._downstream.wait_until(now + self._relay.settings.idle_timeout_s)
        if self._lease is not None:
            self._lease.endpoint.active_at = now

    def flush(self) -> None:
        """Send on what has come."""
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._downstream.send(outgoing)

    def ended(self, now: float) -> None:
        """End a whole answer."""
        upstream, self._upstream = self._upstream, None
        if self._chunked_answer:
            self._outgoing.append(LAST_CHUNK)
        self.flush()
        if not self._body.complete and upstream is not None:
            # Answered before the request was sent: the connection is in the middle of a body.
            self._relay.connections.discard(upstream)
        self._release(Outcome.FAILED if self._status >= SERVER_ERROR else Outcome.SUCCEEDED, now)
        self._finish("complete", now)
        self._downstream.finish(close=self._close, now=now)

    def broken(self, reason: str) -> None:
        """Repeat elsewhere what no byte has answered; otherwise end the caller's answer as broken."""
        upstream, self._upstream = self._upstream, None
        if self._status:
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
            lease, self._door.tiers, now, kept_connection_for_s=kept_for_s
        )

    def upstream_paused(self, *, paused: bool) -> None:
        """Read no more from the caller while the endpoint is slow to read."""
        self._downstream.pause(paused=paused)

    def _break(self, reason: str, outcome: Outcome = Outcome.FAILED) -> None:
        self.flush()
        now = self._relay.now()
        self._release(outcome, now)
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
            self._upstream.pause(paused=paused)
            self._downstream.wait_until(self._relay.now() + self._relay.settings.idle_timeout_s)

    def timed_out(self) -> None:
        """End an exchange that has waited too long: for the body, for the answer, or for its next byte."""
        upstream = self._upstream
        if self._status and self._downstream.write_paused:
            self._stop_upstream()
            self._break("the caller read nothing for too long", Outcome.LEFT)
        elif self._status:
            self._stop_upstream()
            self._break("no byte of the answer came for too long")
        elif self._body.complete or (upstream is not None and upstream.write_paused):
            self._fail(problems.UPSTREAM_TIMEOUT, Outcome.FAILED)
        else:
            self._fail(problems.BODY_TIMEOUT, Outcome.LEFT)

    # --- the end

    def _fail(self, problem: Problem, outcome: Outcome) -> None:
        """Answer with an error of ours, or break an answer that has begun."""
        now = self._relay.now()
        begun = bool(self._status)
        self._stop_attempt(outcome, now)
        if begun:
            self._finish(problem.reason, now)
            self._downstream.close_broken(reset=not self._request.minor)
            return
        self._status = problem.status
        answer = problem_answer(problem, self._request.request_id)
        self._sent = len(answer.body)
        self._finish(problem.reason, now)
        close = self._close or not self._body.complete or self._relay.draining
        self._downstream.answer(answer, self._request, close=close, now=now)

    def _stop_attempt(self, outcome: Outcome, now: float) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.pool.leave(waiter)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._stop_upstream()
        self._release(outcome, now)

    def _stop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._relay.connections.discard(upstream)

    def _finish(self, ended: str, now: float) -> None:
        self._ended = True
        stats, request = self._door.stats, self._request
        status, duration_s = self._status or CALLER_LEFT, now - self._started_at
        stats.count(request.method, status, duration_s)
        if stats.speech and request.method == "POST":
            stats.count_speech(status, duration_s, whole=ended == "complete")
        if self._relay.log_access is None:
            return
        first_s = (self._first_body_at or self._answered_at or now) - self._started_at
        access = Access(
            self._relay.wall(), self._door.name, self._downstream.address, request.method, request.path, status,
            request.request_id, self._endpoint, self._attempts.count, self._queue_s, first_s, duration_s,
            self._body.received, self._sent, ended,
        )  # fmt: skip
        self._relay.log_access(access)
