"""Owns a text that several endpoints speak at once: its parts, in order, as one answer.

The first audio comes with the first part, whatever the text's length, and an endpoint that dies costs its part alone.
The text keeps its place in the queue as any other; when its slot comes it is divided, if that slot's pool allows it.
Must not know connections, nor how pools choose.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from pools.admission import Lease, Outcome
from pools.demand import Demand
from pools.pool import Pool
from pools.tiers import Tiers
from sovren_edge.errors import Problem
from sovren_edge.http.request import with_another_body
from sovren_edge.relay.budget import READ
from sovren_edge.relay.deadlines import NEVER
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.audio import Track
from sovren_edge.speech.part import Part
from sovren_edge.speech.reading import Spoken
from sovren_edge.speech.repeats import Repeats, may_scatter
from sovren_edge.speech.whole import fetch_whole, takes_samples

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Door, Relay

# Parts of one text that are spoken, or wait to be passed on, at once.
AT_ONCE = 4
# How long a character is heard at least: fast readers need a twentieth of a second.
HEARD_S = 0.05
# A silence that a listener notices.
NOTICED_S = 0.1


class Scatter:
    """Supplies an exchange with one answer made of several fetches; see exchange.Supplier."""

    def __init__(
        self, relay: "Relay", door: "Door", taker: Taker, *, demand: Demand, spoken: Spoken, texts: Iterator[str]
    ) -> None:
        """Speak the `texts`, which together are what is `spoken`; there are at least two."""
        self._relay = relay
        self._door = door
        self._taker = taker
        self._spoken = self._asked = spoken
        self._texts = texts
        self._next: str | None = next(texts)
        self._demand = demand._replace(first=len(self._next) / spoken.pace)
        self._repeats: Repeats | None = None
        self._request = with_another_body(taker.request)
        self._parts: deque[Part] = deque()
        self._endpoint = ""
        self._tries = 0
        # What all parts have in common, once the first has begun to be passed on.
        self._form: bytes | None = None
        self._heard_until = NEVER
        self._paused = self._over = self._divided = False
        self.idle_s = relay.settings.idle_timeout_s
        self._whole = fetch_whole(relay, door, taker, self._demand, spoken)
        self._whole.divide = self._divide

    @property
    def endpoint(self) -> str:
        """Who speaks it, or its first part."""
        return self._whole.endpoint or self._endpoint

    @property
    def queue_s(self) -> float:
        """Seconds that were waited for a slot."""
        return self._whole.queue_s

    @property
    def tries(self) -> int:
        """Attempts so far, of all parts."""
        return self._whole.tries + self._tries + sum(part.tries for part in self._parts)

    @property
    def pool(self) -> Pool | None:
        """The pool that answers."""
        return self._whole.pool or self._door.tiers.pools[0]

    @property
    def write_paused(self) -> bool:
        """See exchange.Supplier."""
        return self._whole.write_paused

    def ask(self, now: float) -> None:
        """Ask for a slot."""
        self._whole.ask(now)

    def write(self, pieces: list[bytes]) -> None:
        """See exchange.Supplier; all of the request is at hand."""

    def body_sent(self, now: float) -> None:
        """See exchange.Supplier; it was complete before."""

    def write_eof(self) -> bool:
        """See exchange.Supplier; this is no tunnel."""
        return False

    def pause(self, *, paused: bool) -> None:
        """Pass nothing on and begin no further parts while the caller is slow to read."""
        self._paused = paused
        if not self._divided:
            self._whole.pause(paused=paused)
            return
        now = self._relay.now()
        self._taker.wait_until(now + self.idle_s if paused else NEVER)
        if not paused:
            # Until now it had enough to hear.
            self._heard_until = max(self._heard_until, now)
            self._fill(now)
            self.came(now)

    def stop(self, outcome: Outcome, now: float) -> None:
        """End the work at once, wherever it stands."""
        self._over = True
        self._whole.divide = None
        self._whole.stop(outcome, now)
        while self._parts:
            part = self._parts.popleft()
            part.stop(outcome, now)
            self._tries += part.tries

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return (self._parts[0].explain() | {"parts": "yes"}) if self._parts else self._whole.explain()

    # --- the parts

    def _divide(self, lease: Lease, now: float) -> bool:
        """Use a slot for the first part, and ask for more, where its pool lets texts be divided."""
        pool = lease.pool
        # They hold each other, and nothing here is to wait for a collection.
        self._whole.divide = None
        joinable = pool.settings.interchangeable and not takes_samples(pool.settings, self._spoken)
        if not joinable or not may_scatter(pool, now) or self._next is None:
            # Its place was that of its first part; what its time teaches is about all of it.
            self._whole.demand = lease.demand = self._demand._replace(first=None)
            lease.characters = lease.demand.characters
            return False
        self._spoken = self._spoken.renamed(pool.settings.models, pool.settings.voices)
        stats = self._relay.stats_of(pool)
        stats.scattered += 1
        self._divided = True
        # A text never leaves its first part's tier.
        self._door = replace(self._door, tiers=Tiers([pool]))
        self._repeats = repeats = Repeats(pool)
        self._taker.wait_until(NEVER)
        first = self._make(repeats, now)
        lease.demand = first.demand
        first.take(lease, now, self._whole.queue_s)
        self._endpoint = lease.endpoint.name
        self._fill(now)
        return True

    def _make(self, repeats: Repeats, now: float, due: float | None = None) -> Part:
        text, self._next = self._next or "", next(self._texts, None)
        # The deadline was for the text's beginning; nothing of it is refused in its midst.
        deadline = self._demand.deadline if due is None else inf
        characters = len(text) / self._spoken.pace
        demand = self._demand._replace(characters=characters, first=None, due=due, deadline=deadline)
        part = Part(
            self._relay, self._door, self, self._taker,
            request=self._request, body=self._spoken.body(text), demand=demand, wanted=self._spoken.form,
            repeats=repeats, now=now,
        )  # fmt: skip
        self._parts.append(part)
        self._relay.stats_of(self._door.tiers.pools[0]).parts += 1
        return part

    def _fill(self, now: float) -> None:
        """Ask for as many further parts as may be spoken at once, as far as there is memory for them."""
        while self._next is not None and len(self._parts) < AT_ONCE and not (self._over or self._paused):
            if self._repeats is None or (self._parts and self._relay.budget.left < READ):
                return
            self._make(self._repeats, now, self._due(now)).ask(now)

    def _due(self, now: float) -> float:
        """Return when the listener will have heard all that is before the next part."""
        begun = now if self._form is None else self._heard_until
        return begun + HEARD_S * sum(part.demand.characters or 0.0 for part in self._parts)

    def needs(self, part: Part) -> bool:
        """See part.Whole."""
        return not self._paused and bool(self._parts) and self._parts[0] is part

    def came(self, now: float) -> None:
        """Pass on what is next; see part.Whole."""
        while self._parts and not (self._over or self._paused):
            part = self._parts[0]
            if not (part.complete or part.early) or not self._joins(part, now):
                break
            sound, seconds = part.pass_on()
            if sound:
                self._pass_on(sound, seconds, now)
            elif part.complete:
                self._leave_behind(part, now)
            else:
                break
        if self._over:
            return
        self._taker.flush()
        if self._parts:
            self._parts[0].look(now)
        elif self._next is None and not self._paused:
            self._over = True
            self._taker.ended(now)

    def _leave_behind(self, part: Part, now: float) -> None:
        self._parts.popleft()
        self._tries += part.tries
        if self._repeats is not None and part.endpoint is not None:
            self._repeats.spoke(part.endpoint)
        self._fill(now)

    def _joins(self, part: Part, now: float) -> bool:
        """Whether a part's form is known and that of the parts before; one of another form is spoken again."""
        track = part.track
        if track is None or not track.form:
            return False
        if self._form is None:
            self._begin(track, part.media_type, now)
        elif track.form != self._form:
            part.complete = False
            part.repeat("its audio is of another form than that of the parts before", now)
            return False
        return True

    def _pass_on(self, sound: list[bytes], seconds: float, now: float) -> None:
        if now - self._heard_until > NOTICED_S:
            self._relay.stats_of(self._door.tiers.pools[0]).underruns += 1
        self._heard_until = max(now, self._heard_until) + seconds
        self._taker.body(sound, now)
        # A caller who has enough to read for now says so here.
        self._taker.flush()

    def _begin(self, track: Track, media_type: bytes, now: float) -> None:
        """Begin the answer, as an endpoint would that does not know its length yet."""
        self._form, self._heard_until = track.form, now
        if self._repeats is not None:
            self._repeats.heard = True
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % media_type
        self._taker.answered(self._relay.connections.responses[head], now, sized=False)
        opening = track.opening()
        if opening:
            self._taker.body([opening], now)

    def lost(self, reason: str, now: float, problem: Problem | None) -> None:
        """Speak the text as a whole after all, or break an answer that has begun; see part.Whole."""
        if self._over:
            return
        begun = self._form is not None
        self.stop(Outcome.LEFT, now)
        if begun:
            self._taker.broken(f"a part of the text was lost: {reason}", now)
        elif problem is not None and not self._door.tiers.pools[0].budget.take(now):
            self._taker.failed(problem, now)
        else:
            self._ask_for_whole(now)

    def _ask_for_whole(self, now: float) -> None:
        self._over = self._divided = False
        self._next = None
        before, demand = self._whole, self._demand._replace(first=None)
        self._whole = whole = fetch_whole(self._relay, before.door, self._taker, demand, self._asked)
        whole.queue_s = before.queue_s
        # It was counted, and its repeats were its parts'.
        whole.attempts.counted = whole.attempts.repeated = True
        whole.ask(now)
