"""Owns one part of a text while it is spoken: what has come of it, and its attempts.

What one endpoint did not bring to its end is spoken again by another. Must not know the other parts.
"""

from typing import TYPE_CHECKING, Protocol

from pools.admission import Lease, Outcome
from pools.demand import Demand
from sovren_edge.errors import Problem
from sovren_edge.http.response import OK, ResponseHead, media_type
from sovren_edge.observe.stats import SERVER_ERROR
from sovren_edge.relay import timeouts
from sovren_edge.relay.body import made_body
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.audio import AudioError, Track, open_track

if TYPE_CHECKING:
    from sovren_edge.http.request import RequestHead
    from sovren_edge.relay.relay import Door, Relay

# How often a part is spoken again after its first attempt, and how much of one is kept.
REPEATS = 2
PART_LIMIT = 32 * 1024 * 1024


class Whole(Protocol):
    """The text that a part is of."""

    def came(self, now: float) -> None:
        """Take note that a part has sound, or is complete."""

    def lost(self, reason: str, now: float) -> None:
        """Take note that a part cannot be spoken."""


class Part:
    """One part, as whoever its answer is for: see taker.Taker and deadlines.Watched."""

    def __init__(
        self, relay: "Relay", door: "Door", whole: Whole, asked: Taker, *, request: "RequestHead", body: bytes,
        demand: Demand, wanted: str, now: float,
    ) -> None:  # fmt: skip
        """Speak `body` in the place of what was `asked`; `wanted` names its form, if the caller does."""
        self.request, self.request_id, self.caller, self.started_at = request, asked.request_id, asked.caller, now
        self.request_body = made_body(request, body)
        self.demand = demand
        self.deadline = self.looked_at = NEVER
        self.bucket = 0
        self.complete = False
        self.track: Track | None = None
        self.media_type = b""
        self.reasons: dict[str, object] = {}
        self._relay = relay
        self._door = door
        self._whole = whole
        self._repeats = 0
        self._tries_before = 0
        self._status = 0
        self._wrong = ""
        self._wanted = wanted
        self._beginning = b""
        self._sound: list[bytes] = []
        self._passed = self._skip = self._size = 0
        self._passed_s = 0.0
        self._fetch = Fetch(relay, door, self, demand)

    def ask(self, now: float) -> None:
        """Ask for a slot."""
        self._fetch.ask(now)

    def take(self, lease: Lease, now: float, queue_s: float) -> None:
        """Begin with a slot that is at hand, for which so many seconds were waited."""
        self._fetch.queue_s = queue_s
        self._fetch.take(lease, now)

    def stop(self, outcome: Outcome, now: float) -> None:
        """End the work at once."""
        self._relay.deadlines.forget(self)
        self.deadline = NEVER
        self._fetch.stop(outcome, now)

    @property
    def tries(self) -> int:
        """Attempts so far."""
        return self._tries_before + self._fetch.tries

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return self.reasons or self._fetch.explain()

    def pass_on(self) -> tuple[list[bytes], float]:
        """Return the sound that has not been passed on yet, and its seconds."""
        sound, self._sound = self._sound, []
        if self.track is None:
            return sound, 0.0
        seconds, self._passed_s = max(0.0, self.track.seconds - self._passed_s), self.track.seconds
        self._passed += sum(map(len, sound))
        return sound, seconds

    def repeat(self, reason: str, now: float) -> None:
        """Speak it again elsewhere; whatever was passed on is not passed on twice."""
        attempts, pool = self._fetch.attempts, self._door.tiers.pools[0]
        if self._repeats == REPEATS:
            self._whole.lost(reason, now)
            return
        self._repeats += 1
        self._tries_before += attempts.count
        # Of a wrong form it may be known before it has ended.
        self._fetch.stop(Outcome.FAILED, now)
        pool.budget.spend(now)
        self._relay.stats_of(pool).parts_repeated += 1
        self._status, self._wrong, self._beginning, self._sound = 0, "", b"", []
        self.track, self._skip, self._size = None, self._passed, 0
        tried = attempts.tried if attempts.last is None else attempts.tried | {attempts.last}
        self._fetch = Fetch(self._relay, self._door, self, self.demand)
        if pool.can_serve(tried):
            self._fetch.attempts.tried = tried
        self._fetch.ask(now)

    # --- what its fetch tells

    def wait_until(self, deadline: float) -> None:
        """See taker.Taker."""
        self.deadline = deadline
        if deadline < self.looked_at:
            self._relay.deadlines.bring_forward(self)

    def expire(self) -> None:
        """See deadlines.Watched."""
        late = timeouts.waited_for(self._status, sent=True, reading=True)
        self._door.stats.timeouts[late.kind] += 1
        now = self._relay.now()
        self._fetch.stop(late.outcome, now)
        self.repeat(late.problem.reason, now)

    def sent(self, *, paused: bool) -> None:
        """See taker.Taker; all of the request is at hand."""

    def interim(self, head: ResponseHead) -> None:
        """See taker.Taker; nobody waits for it."""

    def switched(self, head: ResponseHead, now: float) -> bool:  # noqa: ARG002 - Taker's signature
        """See taker.Taker; nobody asked for that."""
        return False

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:  # noqa: ARG002 - Taker's signature
        """See taker.Taker."""
        self._status = head.status
        if self._door.explains:
            # When it is passed on, its lease has ended.
            self.reasons = self._fetch.explain()
        self.media_type = media_type(head)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """See taker.Taker."""
        self.answered(head, now, sized=True)
        self.body([body], now)

    def body(self, pieces: list[bytes], now: float) -> None:  # noqa: ARG002 - Taker's signature
        """See taker.Taker."""
        if self._status != OK or self._wrong:
            return
        try:
            for piece in pieces:
                self._read(piece)
        except AudioError as error:
            self._fail(str(error))

    def _read(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > PART_LIMIT:
            raise AudioError("a part is too long")
        if self.track is None:
            piece = self._beginning = self._beginning + piece
            if len(piece) < 4:  # noqa: PLR2004 - what a form is known by
                return
            self.track = open_track(self.media_type, piece)
            if self._wanted not in {"", self.track.kind}:
                raise AudioError(f"it is {self.track.kind} and not {self._wanted}")
        sound = self.track.feed(piece)
        if self._skip:
            skipped = min(self._skip, len(sound))
            self._skip -= skipped
            sound = sound[skipped:]
        if sound:
            self._sound.append(sound)

    def _fail(self, reason: str) -> None:
        self._wrong = reason
        self._fetch.blame()

    def flush(self) -> None:
        """See taker.Taker."""
        if self._sound:
            self._whole.came(self._relay.now())

    def ended(self, now: float) -> None:
        """See taker.Taker."""
        self._relay.deadlines.forget(self)
        if self._status == OK:
            self._end_track()
        elif self._status < SERVER_ERROR:
            # It is the request that is wrong: nobody else would take it.
            self._whole.lost(f"an endpoint answered {self._status}", now)
            return
        else:
            self._wrong = f"an endpoint answered {self._status}"
        if self._wrong:
            self.repeat(self._wrong, now)
            return
        self.complete = True
        self._whole.came(now)

    def _end_track(self) -> None:
        if self._wrong:
            return
        if self.track is None:
            self._wrong = "an endpoint answered without sound"
            return
        try:
            self.track.end()
        except AudioError as error:
            self._wrong = str(error)

    def failed(self, problem: Problem, now: float) -> None:
        """See taker.Taker."""
        self._relay.deadlines.forget(self)
        self.repeat(problem.reason, now)

    def broken(self, reason: str, now: float) -> None:
        """See taker.Taker."""
        self._relay.deadlines.forget(self)
        self.repeat(reason, now)
