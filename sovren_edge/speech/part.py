"""Owns one part of a text while it is spoken: what has come of it, and its attempts.

What one endpoint did not bring to its end is spoken again by another. Must not know the other parts.
"""

from collections import deque
from typing import TYPE_CHECKING, Protocol

from pools.admission import Lease, Outcome
from pools.demand import Demand
from pools.endpoint import Endpoint
from pools.pool import NOBODY
from sovren_edge.errors import Problem
from sovren_edge.http.response import OK, ResponseHead, media_type
from sovren_edge.observe.stats import SERVER_ERROR
from sovren_edge.relay import problems, timeouts
from sovren_edge.relay.body import made_body
from sovren_edge.relay.budget import READ, Share
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.audio import AudioError, Track, open_track
from sovren_edge.speech.repeats import Repeats

if TYPE_CHECKING:
    from sovren_edge.http.request import RequestHead
    from sovren_edge.relay.relay import Door, Relay

# Of a longer part no more is kept than this: it is passed on as it comes when its turn is there.
PART_LIMIT = 32 * 1024 * 1024
# How often one that is held back is looked at.
LOOK_S = 0.2


class Whole(Protocol):
    """The text that a part is of."""

    def came(self, now: float) -> None:
        """Take note that a part has sound, or is complete."""

    def needs(self, part: "Part") -> bool:
        """Whether nothing else is heard before this part, and somebody listens."""

    def lost(self, reason: str, now: float, problem: Problem | None) -> None:
        """Take note that a part cannot be spoken; without a `problem`, the answer to the whole text may be better."""


class Part:
    """One part, as whoever its answer is for: see taker.Taker and deadlines.Watched."""

    def __init__(
        self, relay: "Relay", door: "Door", whole: Whole, asked: Taker, *, request: "RequestHead", body: bytes,
        demand: Demand, wanted: str, repeats: Repeats, now: float,
    ) -> None:  # fmt: skip
        """Speak `body` in the place of what was `asked`; `wanted` names its form, if the caller does."""
        self.request, self.request_id, self.caller, self.started_at = request, asked.request_id, asked.caller, now
        self.trace, self.span = asked.trace, asked.span
        self.request_body = made_body(request, body)
        self.demand = demand
        self.deadline = self.looked_at = NEVER
        self.bucket = 0
        self.complete = self._stopped = False
        self.track: Track | None = None
        self.media_type = b""
        self.reasons: dict[str, object] = {}
        # Who was asked last.
        self.endpoint: Endpoint | None = None
        self._relay = relay
        self._door = door
        self._pool = door.tiers.pools[0]
        self._whole = whole
        self._repeats = repeats
        self._again = 0
        self._tries = 0
        self._wanted = wanted
        # Bytes that were passed on, and their seconds.
        self._passed, self._passed_s = 0, 0.0
        self._share = Share(relay.budget)
        self._forget()
        # None where nobody is asked: it is complete, or put off.
        self._fetch: Fetch | None = Fetch(relay, door, self, demand)

    def _forget(self) -> None:
        """Know nothing of an answer."""
        self._status, self._wrong, self._beginning = 0, "", b""
        self.track, self._skip, self._size = None, self._passed, 0
        # What waits to be passed on, and its bytes.
        self._sound: deque[bytes] = deque()
        self._kept = 0
        self._held = False
        self._share.fit(0)

    def ask(self, now: float) -> None:
        """Ask for a slot."""
        if self._fetch is not None:
            self._fetch.ask(now)

    def take(self, lease: Lease, now: float, queue_s: float) -> None:
        """Begin with a slot that is at hand, for which so many seconds were waited."""
        if self._fetch is not None:
            self._fetch.queue_s = queue_s
            self._fetch.take(lease, now)

    def stop(self, outcome: Outcome, now: float) -> None:
        """End the work at once; whatever is told now is of no use to anybody."""
        self._stopped = True
        self._end(outcome, now)
        self._forget()

    def _end(self, outcome: Outcome, now: float) -> frozenset[Endpoint]:
        """Ask nobody any more; return who was tried beside the last one."""
        self._relay.deadlines.forget(self)
        self.deadline = NEVER
        # The two hold each other, and nothing here is to wait for a collection.
        fetch, self._fetch = self._fetch, None
        if fetch is None:
            return NOBODY
        fetch.stop(outcome, now)
        self._tries += fetch.tries
        self.endpoint = fetch.attempts.last or self.endpoint
        return fetch.attempts.tried

    @property
    def tries(self) -> int:
        """Attempts so far."""
        return self._tries + (0 if self._fetch is None else self._fetch.tries)

    @property
    def early(self) -> bool:
        """Whether it is passed on before it is complete."""
        return self._pool.settings.deterministic or self._size > PART_LIMIT

    @property
    def _repeatable(self) -> bool:
        """Whether nothing was passed on, or another one would speak it at the same pace: one knows where to go on."""
        return not self._passed or self._pool.settings.deterministic

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return self.reasons or ({} if self._fetch is None else self._fetch.explain())

    def pass_on(self) -> tuple[list[bytes], float]:
        """Return some of the sound that has not been passed on yet, and its seconds."""
        sound, size = [], 0
        while self._sound and size < READ:
            sound.append(self._sound.popleft())
            size += len(sound[-1])
        if self.track is None or not sound:
            return [], 0.0
        seconds = max(0.0, self.track.seconds - self._passed_s) * size / self._kept
        self._passed += size
        self._passed_s += seconds
        self._kept -= size
        self._share.fit(self._kept + (0 if self.complete else READ), must=True)
        return sound, seconds

    def repeat(self, reason: str, now: float, problem: Problem | None = None) -> None:
        """Speak it again elsewhere; whatever was passed on is not passed on twice. See Whole.lost."""
        # Of a wrong form it may be known before it has ended, or after that.
        failed = self._end(Outcome.FAILED, now)
        if self._stopped:
            # What its slot went to has ended the text.
            return
        self._repeats.failed(failed if self.endpoint is None else failed | {self.endpoint})
        tried = self._repeats.allow(self._again, now) if self._repeatable else None
        if tried is None:
            self._lose(reason, now, problem)
            return
        self._again += not tried
        self._ask_again(tried, now)

    def _lose(self, reason: str, now: float, problem: Problem | None = None) -> None:
        if not self._stopped:
            self._whole.lost(reason, now, problem)

    def _ask_again(self, tried: frozenset[Endpoint], now: float) -> None:
        self._forget()
        self._relay.stats_of(self._pool).parts_repeated += 1
        self._fetch = fetch = Fetch(self._relay, self._door, self, self.demand)
        fetch.attempts.tried, fetch.attempts.counted = tried, True
        fetch.ask(now)

    # --- memory: the next part to be heard always goes on, and so everybody does in the end

    def _has_room(self) -> bool:
        """Have memory for what has come and for what one more read may bring."""
        must = self._whole.needs(self)
        return (must or self._kept < PART_LIMIT) and self._share.fit(self._kept + READ, must=must)

    def _hold(self, now: float) -> None:
        """Read no more of it for now, if there is no room."""
        if self._fetch is not None and not self._held and not self._has_room():
            self._fetch.pause(paused=True)
            self._held = True
            self._look_at(now + LOOK_S)

    def look(self, now: float) -> None:
        """Go on if it was held back and need not be any more; see Whole.needs."""
        if self._held and self._fetch is not None:
            if self._has_room():
                self._held = False
                self._fetch.pause(paused=False)
            elif self._pool.waiting and self._repeatable:
                # Its slot is of use to somebody else, and maybe to whoever is to be heard before it.
                self._end(Outcome.LEFT, now)
                self._forget()
            else:
                self._look_at(now + LOOK_S)
        elif self._fetch is None and not self.complete and self._whole.needs(self):
            self._ask_again(NOBODY, now)

    # --- what its fetch tells

    def wait_until(self, deadline: float) -> None:
        """See taker.Taker; while it is held back, nothing takes too long."""
        if not self._held:
            self._look_at(deadline)

    def _look_at(self, deadline: float) -> None:
        self.deadline = deadline
        if deadline < self.looked_at:
            self._relay.deadlines.bring_forward(self)

    def expire(self) -> None:
        """See deadlines.Watched."""
        now = self._relay.now()
        if self._held:
            self.look(now)
            return
        late = timeouts.waited_for(self._status, sent=True, reading=True)
        self._door.stats.timeouts[late.kind] += 1
        self.repeat(late.problem.reason, now, late.problem)

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
            self.reasons = self.explain()
        self.media_type = media_type(head)
        if head.status == OK:
            self._hold(now)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """See taker.Taker."""
        self.answered(head, now, sized=True)
        self.body([body], now)

    def body(self, pieces: list[bytes], now: float) -> None:
        """See taker.Taker."""
        if self._status != OK or self._wrong:
            return
        try:
            for piece in pieces:
                self._read(piece)
        except AudioError as error:
            self._fail(str(error))
        self._hold(now)

    def _read(self, piece: bytes) -> None:
        self._size += len(piece)
        if self.track is None:
            piece = self._beginning = self._beginning + piece
            if len(piece) < 4:  # noqa: PLR2004 - what a form is known by
                return
            self.track, self._beginning = open_track(self.media_type, piece), b""
            if self._wanted not in {"", self.track.kind}:
                raise AudioError(f"it is {self.track.kind} and not {self._wanted}")
        sound = self.track.feed(piece)
        if self._skip:
            skipped = min(self._skip, len(sound))
            self._skip -= skipped
            sound = sound[skipped:]
        if sound:
            self._sound.append(sound)
            self._kept += len(sound)

    def _fail(self, reason: str) -> None:
        self._wrong = reason
        self._sound.clear()
        self._kept = 0
        if self._fetch is not None:
            self._fetch.blame()

    def flush(self) -> None:
        """See taker.Taker."""
        if self._sound and not self._stopped:
            self._whole.came(self._relay.now())

    def ended(self, now: float) -> None:
        """See taker.Taker."""
        if self._status == OK:
            self._end_track()
        elif self._status < SERVER_ERROR:
            # It is the request that is wrong: nobody else would take it.
            self._lose(f"an endpoint answered {self._status}", now)
            return
        else:
            self.broken(f"an endpoint answered {self._status}", now)
            return
        if self._wrong:
            self.repeat(self._wrong, now)
            return
        self._end(Outcome.SUCCEEDED, now)
        if self._stopped:
            return
        self.complete = True
        self._held = False
        self._share.fit(self._kept, must=True)
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
        if self.tries == self._tries:
            # It was refused: the whole may be served elsewhere, or be told so.
            self._lose(problem.reason, now)
        else:
            self.repeat(problem.reason, now, problem)

    def broken(self, reason: str, now: float) -> None:
        """See taker.Taker."""
        self.repeat(reason, now, problems.upstream_failed(reason))
