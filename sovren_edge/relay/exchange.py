"""Owns one request of a caller from its head to the last byte of its answer: its body, its answer, and its end.

No answer is begun before a slot is held. Must not know how bytes are read off the caller's connection, nor where an
answer comes from.
"""

from typing import TYPE_CHECKING, Protocol

from pools.admission import Outcome
from pools.pool import Pool
from sovren_edge.errors import Problem
from sovren_edge.http.answer import CONTINUE, problem_answer
from sovren_edge.http.request import Caller, RequestHead
from sovren_edge.http.response import SWITCHED, ResponseHead
from sovren_edge.observe.stats import REDIRECT
from sovren_edge.relay import problems, timeouts
from sovren_edge.relay.body import NO_BODY, RequestBody
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.journal import COMPLETE, LEFT
from sovren_edge.relay.reply import Reply

if TYPE_CHECKING:
    from sovren_edge.observe.tracing import Span
    from sovren_edge.relay.downstream import Downstream
    from sovren_edge.relay.relay import Door, Relay


class Supplier(Protocol):
    """Where an answer comes from: a fetch, or what makes one of several; see Fetch."""

    idle_s: float

    @property
    def endpoint(self) -> str:
        """Who answers, or was asked last; empty before."""

    @property
    def pool(self) -> Pool | None:
        """The pool whose endpoint that is."""

    @property
    def queue_s(self) -> float:
        """Seconds that were waited for a slot."""

    @property
    def tries(self) -> int:
        """Attempts so far."""

    @property
    def write_paused(self) -> bool:
        """Whether an endpoint reads the request more slowly than it comes."""

    def ask(self, now: float) -> None:
        """Begin."""

    def write(self, pieces: list[bytes]) -> None:
        """Send more of the request's body."""

    def body_sent(self, now: float) -> None:
        """Take note that the request is complete."""

    def write_eof(self) -> bool:
        """Pass on that nothing more comes into a tunnel; return whether there is one."""

    def pause(self, *, paused: bool) -> None:
        """Bring no more of the answer while nobody takes it, or go on."""

    def stop(self, outcome: Outcome, now: float) -> None:
        """End the work at once, wherever it stands."""

    def explain(self) -> dict[str, object]:
        """Return why it is answered by whom: short words and numbers, for people."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_by", "_door", "_downstream", "_ended", "_expects", "_held", "_relay", "_reply", "_reserved", "_supplier",
        "_total_at", "request", "request_body", "request_id", "span", "started_at", "trace",
    )  # fmt: skip

    def __init__(
        self, relay: "Relay", door: "Door", downstream: "Downstream", request: RequestHead, now: float
    ) -> None:
        self._relay = relay
        self._door = door
        self._downstream = downstream
        self.request = request
        self.request_id = request.request_id or next(relay.request_ids)
        self.started_at = now
        self.trace = request.trace or next(relay.traces)
        self.span: Span | None = None
        if relay.tracer is not None:
            self.span = span = relay.tracer.begin(request.context, request.state, request.method, now)
            if span is not None:
                self.trace = span.lines
        self.request_body = NO_BODY if request.bodiless else RequestBody(request, relay.settings.kept_body_limit)
        self._expects = request.expects
        self._supplier: Supplier | None = None
        # Who was asked, how often, and after how many seconds in a queue; of a supplier that was stopped.
        self._by = ("", 0, 0.0)
        self._reply = Reply(downstream, request, self.request_id)
        self._ended = self._held = False
        self._reserved = 0
        self._total_at = now + relay.settings.total_timeout_s if relay.settings.total_timeout_s else NEVER

    @property
    def caller(self) -> Caller:
        """Who asked; see taker.Taker."""
        return self._downstream.caller

    # --- the request's body

    def start(self, whole: bytes = b"") -> None:
        """Ask for a slot as soon as the body is kept (`whole`: it is at hand), or at once when it is too large."""
        if whole:
            self._reserve(at_hand=True)
            self.request_body.take_whole(whole)
        if self.request_body.complete:
            self._ask(self.started_at)
        elif self.request_body.kept and self._reserve():
            # However slowly it drips, a body that is kept holds memory, and has no slot yet.
            self.wait_until(self.started_at + self._relay.settings.body_timeout_s)
            self._continue()
        else:
            self._hold_body()

    def _reserve(self, *, at_hand: bool = False) -> bool:
        """Take memory for a body that is to be kept; without it, the body is passed on as it comes.

        What is `at_hand` has its memory already.
        """
        limit = self._relay.settings.kept_body_limit
        size = limit if self.request.chunked else self.request.length
        self.request_body.kept = self._relay.budget.take(size, must=at_hand)
        self._reserved = size if self.request_body.kept else 0
        return self.request_body.kept

    def wait_until(self, deadline: float) -> None:
        """Set when what is waited for has taken too long; see Taker."""
        self._downstream.wait_until(min(deadline, self._total_at))

    def take_body(self, pieces: list[bytes]) -> None:
        """Take some of the request's body."""
        was_kept = self.request_body.kept
        passed_on = self.request_body.take(pieces)
        if self.request_body.streaming:
            self.wait_until(self._relay.now() + self._idle_s)
        if self._supplier is not None:
            self._supplier.write(passed_on)
        elif was_kept and not self.request_body.kept:
            self._hold_body()

    @property
    def _idle_s(self) -> float:
        return self._relay.settings.idle_timeout_s if self._supplier is None else self._supplier.idle_s

    def end_body(self) -> None:
        """Take note that the request is complete."""
        last = self.request_body.end()
        if self._supplier is None:
            self._ask(self._relay.now())
        elif self.request_body.streaming:
            self._supplier.write(last)
            self._supplier.body_sent(self._relay.now())
        # Otherwise a slot has been asked for, and what is kept is sent when it comes.

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

    def _ask(self, now: float) -> None:
        self._supplier = supplier = self._door.supplier(self._relay, self._door, self)
        supplier.ask(now)

    # --- the answer: told by its supplier, see taker.Taker

    def sent(self, *, paused: bool) -> None:
        """Read on while an endpoint takes the request."""
        self._continue()
        self._downstream.pause(paused=paused)

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx; the final answer follows."""
        self._reply.interim(head)

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """Begin the answer to the caller."""
        if self._door.explains:
            self._explain()
        self._reply.begin(head, now, sized=sized, close=self._relay.draining or not self.request_body.complete)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """Pass on a whole answer."""
        if self._door.explains:
            self._explain()
        self._reply.whole(head, body, now, close=self._relay.draining or not self.request_body.complete)
        if body and self._door.stats.speech:
            self._heard(now)

    def _explain(self) -> None:
        """Tell a caller that is trusted, and asks, where its answer comes from."""
        asked = self.request.told.get(b"x-sovren-debug") == b"1" and self.request.trusted
        if asked and self._supplier is not None:
            wait_ms = round(self._supplier.queue_s * 1000, 1)
            self._reply.explain({"wait-ms": wait_ms, **self._supplier.explain()})

    def switched(self, head: ResponseHead, now: float) -> bool:
        """Become a tunnel: both sides are bodies without an end now."""
        if head.upgrade.lower() != self.request.upgrade.lower():
            return False
        self._reply.begin(head, now, sized=True, close=False)
        self._reply.flush()
        self._reply.close = True
        self._total_at = NEVER
        self.request_body = RequestBody(self.request, 0)
        self.request_body.open()
        self._door.stats.tunnels += 1
        self._downstream.open_tunnel()
        return True

    def body(self, pieces: list[bytes], now: float) -> None:
        """Pass on some of the answer's body."""
        if self._reply.body(pieces, now) and self._door.stats.speech:
            self._heard(now)

    def _heard(self, now: float) -> None:
        """Count how soon the caller hears something, if it is speech."""
        pool = None if self._supplier is None else self._supplier.pool
        if pool is not None and self._reply.status < REDIRECT and self.request.method == "POST":
            self._relay.stats_of(pool).ttfa.observe(now - self.started_at)

    def flush(self) -> None:
        """Send on what has come."""
        self._reply.flush()
        if self._downstream.write_paused and not self._held:
            self.caller_paused(paused=True)

    def ended(self, now: float) -> None:
        """End a whole answer."""
        self._reply.end()
        self._finish(COMPLETE, now)
        self._downstream.finish(close=self._reply.close, now=now)

    def failed(self, problem: Problem, now: float) -> None:
        """Answer with an error of ours."""
        self._reply.status = problem.status
        request_id = self.request_id.decode()
        answer = problem_answer(problem, request_id)
        self._reply.sent = len(answer.body)
        self._finish(problem.reason, now)
        close = self._reply.close or not self.request_body.complete or self._relay.draining
        self._downstream.answer(answer, self.request, request_id, close=close, now=now)

    def broken(self, reason: str, now: float) -> None:
        """End the caller's answer as broken."""
        self._reply.flush()
        self._finish(reason, now)
        # An HTTP/1.0 caller takes any orderly close for the end.
        self._downstream.close_broken(reset=not self.request.minor)

    # --- the caller

    def caller_left(self) -> None:
        """End the work at once, wherever it stands."""
        if self._ended:
            return
        self._door.stats.callers_left += 1
        now = self._relay.now()
        self._stop(Outcome.LEFT, now)
        self._finish(LEFT, now)

    def caller_closed(self) -> bool:
        """Pass on the end of what the caller sends; return whether it may still get something: only in a tunnel."""
        if self._reply.status != SWITCHED or self._supplier is None or not self._supplier.write_eof():
            return False
        self._supplier.idle_s = self._relay.settings.idle_timeout_s
        self.wait_until(self._relay.now() + self._supplier.idle_s)
        return True

    def caller_paused(self, *, paused: bool) -> None:
        """Take no more of the answer while the caller is slow to read, but for what may be read ahead."""
        if paused and self._door.reads_ahead and self._downstream.read_ahead():
            return
        if self._supplier is not None and paused != self._held:
            self._held = paused
            self._supplier.pause(paused=paused)

    def timed_out(self, now: float) -> None:
        """End an exchange that has waited too long."""
        sent = self.request_body.complete or (self._supplier is not None and self._supplier.write_paused)
        late = timeouts.waited_for(self._reply.status, sent=sent, reading=not self._held)
        if now >= self._total_at:
            late = timeouts.TOTAL
        self._door.stats.timeouts[late.kind] += 1
        self._fail(late.problem, late.outcome)

    # --- the end

    def _fail(self, problem: Problem, outcome: Outcome) -> None:
        """Give up: answer with an error of ours, or break an answer that has begun."""
        now = self._relay.now()
        self._stop(outcome, now)
        if self._reply.status:
            self.broken(problem.reason, now)
        else:
            self.failed(problem, now)

    def _stop(self, outcome: Outcome, now: float) -> None:
        supplier, self._supplier = self._supplier, None
        if supplier is not None:
            # One that has been stopped may know nothing of itself any more.
            self._by = supplier.endpoint, supplier.tries, supplier.queue_s
            supplier.stop(outcome, now)

    def _finish(self, ended: str, now: float) -> None:
        self._ended = True
        if self._reserved:
            self._relay.budget.give(self._reserved)
        # They hold each other, and nothing here is to wait for a collection.
        (supplier, self._supplier), reply = (self._supplier, None), self._reply
        if reply.status == SWITCHED:
            self._door.stats.tunnels -= 1
        endpoint, tries, queue_s = (
            self._by if supplier is None else (supplier.endpoint, supplier.tries, supplier.queue_s)
        )
        self._relay.journal.finished(
            self._door, self._downstream.address, self.request, self.request_id, ended, reply.status,
            endpoint, tries, queue_s,
            (reply.body_at or reply.began_at or now) - self.started_at, now - self.started_at,
            self.request_body.received, reply.sent, self.trace, self.span,
        )  # fmt: skip
