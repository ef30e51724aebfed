"""Owns what a pool of speech engines prefers: which endpoint serves a text, and which text is served first.

Must not know how slots are counted, nor probes. Its reasons are told in docs/balancing.md.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, islice
from math import ceil, exp, inf

from pools.admission import SUCCEEDED, Lease, Outcome, Refusal, Waiter
from pools.balancer import Roll
from pools.callers import Callers
from pools.demand import Demand, Priority
from pools.endpoint import Endpoint
from pools.estimate import LEAST_S, VOICES, Estimates, Line
from pools.handover import Holding

# How much earlier or later than others a class stands in the queue.
SHIFT_S = {Priority.INTERACTIVE: -1.0, Priority.STANDARD: 0.0, Priority.BULK: 5.0}
# For so many times its own length a text lets others go first.
PATIENCE = 8.0
# So many freed slots, and the next one is for who has waited longest, if that is long.
OTHERS_FIRST = 3
# One of so many slots is never taken by a greedy caller when it is the last that is free.
LAST_FREE = 5
# What is seen of an endpoint fades by this time constant.
FADE_S = 10.0
# What was seen so lately has not faded yet.
FRESH_S = 1.0
# What each error of the last seconds counts for: as if so much more work were before it.
ERROR_S = 1.0
# Affinities that are remembered.
AFFINITIES = 10_000
# Nobody is hedged sooner; nor is anybody believed to be later by more than so many times.
LEAST_LATE_S, MOST_LATE = 0.1, 20.0
LATE_STEP = 0.1
# What a voice that an endpoint has not used yet counts for, and so an endpoint that did not speak the text before.
COLD_S = 0.05
# A listener who would have heard everything so soon is served before all others.
URGENT_S = 0.25
FAULTS = frozenset({Outcome.FAILED, Outcome.REFUSED})


@dataclass(slots=True)
class Load:
    """What one endpoint is doing, and how it has done lately."""

    ttfa_s: float = 0.0
    errors: float = 0.0
    voices: set[str] = field(default_factory=set)
    seen_at: float = 0.0
    # What both count for, as of then.
    lately_s: float = 0.0
    # Of the leases that are not yet expected to have ended: how many, the sum of their ends, the next one, all of them.
    working: int = 0
    ends_sum: float = 0.0
    next_end: float = inf
    _ends: list[tuple[float, int, Lease]] = field(default_factory=list)
    _tickets: Iterator[int] = field(default_factory=count)

    def begin(self, lease: Lease) -> None:
        """Take a lease that has begun."""
        end = lease.since + lease.estimate_s
        heappush(self._ends, (end, next(self._tickets), lease))
        lease.working = True
        self.working += 1
        self.ends_sum += end
        self.next_end = self._ends[0][0]

    def end(self, lease: Lease) -> None:
        """Let a lease go, at its end or when it was expected to have ended."""
        if not lease.working:
            return
        lease.working = False
        self.working -= 1
        if self.working:
            self.ends_sum -= lease.since + lease.estimate_s
        else:
            # No rounding outlives a moment of rest.
            self._ends.clear()
            self.ends_sum, self.next_end = 0.0, inf

    def holdings(self, now: float) -> list[Holding]:
        """Return whose leases are expected to need time still, and how much."""
        self.pass_by(now)
        return [Holding(caller=lease.demand.caller, left_s=end - now) for end, _, lease in self._ends if lease.working]

    def warm(self, voice: str) -> None:
        """Take note of a voice that has been used."""
        if voice not in self.voices:
            if len(self.voices) >= VOICES:
                self.voices.clear()
            self.voices.add(voice)

    def pass_by(self, now: float) -> None:
        """Let those go that were expected to have ended by now."""
        ends = self._ends
        while ends and (ends[0][0] <= now or not ends[0][2].working):
            self.end(heappop(ends)[2])
        self.next_end = ends[0][0] if ends else inf

    def remaining_s(self, now: float) -> float:
        """Return the seconds of work that its leases are expected to need still."""
        if self.next_end <= now:
            self.pass_by(now)
        return self.ends_sum - self.working * now

    def spoke(self, seconds: float, now: float) -> None:
        """Take a time to first audio."""
        # A peak is believed at once, and what is better only with time.
        fading = self.fading(now)
        self.ttfa_s = seconds if seconds > self.ttfa_s else self.ttfa_s * fading + seconds * (1 - fading)
        self._see(fading, now)

    def failed(self, now: float) -> None:
        """Take an error."""
        self._see(self.fading(now), now, 1.0)

    def fading(self, now: float) -> float:
        """Return what is left of what was seen last."""
        return exp((self.seen_at - now) / FADE_S)

    def _see(self, fading: float, now: float, error: float = 0.0) -> None:
        self.errors = self.errors * fading + error
        self.seen_at = now
        self.lately_s = self.ttfa_s + ERROR_S * self.errors


def slots_of(endpoints: Iterable[Endpoint]) -> int:
    """Return how many slots endpoints have in all."""
    return sum(endpoint.limit for endpoint in endpoints)


def came_at(waiter: Waiter) -> float:
    """Return since when somebody counts as waiting: by its class, or once a part is due."""
    return waiter.since + SHIFT_S[waiter.demand.priority] if waiter.demand.due is None else waiter.demand.due


class Speech:
    """The shorter before the longer, nobody overtaken for ever, and nobody with more than a share while others wait."""

    def __init__(self, overdue_s: float, roll: Roll, *, in_parts: bool = False) -> None:
        """`in_parts`: of a text that may be spoken in parts, only the first one is asked for at first."""
        self.estimates = Estimates()
        self.overdue_s = overdue_s
        self._in_parts = in_parts
        self._roll = roll
        # Whether slots come from a successor, one by one: it is there that callers are kept from them.
        self._retired = False
        self._loads: defaultdict[Endpoint, Load] = defaultdict(Load)
        self.callers = Callers()
        # Slots that went to others while somebody was overdue.
        self._passed = 0
        # Who spoke last for each affinity, the oldest first.
        self._near: dict[str, Endpoint] = {}
        self._least_s = 0.0
        # Seconds to first audio by length, and how many times that the latest twentieth takes.
        self._firsts = Line()
        self._late = 3.0

    def estimate_s(self, demand: Demand, endpoint: str = "") -> float:
        """Return what a text will cost at an endpoint, or at any."""
        return self.estimates.seconds(self._characters(demand), endpoint, demand.voice)

    def _characters(self, demand: Demand) -> float | None:
        return demand.first if self._in_parts and demand.first is not None else demand.characters

    def choose(self, endpoints: Iterable[Endpoint], demand: Demand, now: float) -> Endpoint | None:
        """Return the endpoint with a free slot that will speak first: with little work before it, and prompt lately."""
        best: list[Endpoint] = []
        least = inf
        voice, loads = demand.voice, self._loads
        near = self._near.get(demand.affinity) if demand.affinity else None
        for endpoint in endpoints:
            if endpoint.inflight >= endpoint.limit:
                continue
            load = loads[endpoint]
            # How late it would begin to be heard: recent times to first audio, errors, and the work before it.
            cost = load.lately_s
            if cost and now - load.seen_at > FRESH_S:
                cost *= load.fading(now)
            if load.working:
                cost += load.remaining_s(now)
            cost /= endpoint.weight
            if voice not in load.voices:
                cost += COLD_S
            if near is not None and near is not endpoint:
                cost += COLD_S
            if cost < least:
                best, least = [endpoint], cost
            elif cost == least:
                best.append(endpoint)
        self._least_s = least if best else 0.0
        if len(best) > 1:
            return best[self._roll(len(best))]
        return best[0] if best else None

    def _is_greedy(self, name: str, slots: int) -> bool:
        """Whether a caller has asked for far more than others lately."""
        return self.callers.outdoes(name) and self.callers.exceeds(name, slots)

    def must_wait(self, demand: Demand, endpoints: Collection[Endpoint], now: float) -> bool:
        """Whether a text must wait, though a slot be free: a greedy caller's, if others may need it."""
        callers, name = self.callers, demand.caller
        # Nearly nobody is, and to say so must cost nearly nothing. What is heard already is always let on.
        if not callers.outdoes(name) or demand.due is not None or self._retired:
            return False
        slots = slots_of(endpoints)
        if not callers.exceeds(name, slots):
            return False
        free = slots - sum(endpoint.inflight for endpoint in endpoints)
        return free <= slots // LAST_FREE or callers.inflight(name) >= callers.most(name, slots, now)

    def order(self, waiters: Collection[Waiter], endpoints: Collection[Endpoint], now: float) -> list[Waiter]:
        """Return waiters in the order in which they are to be served, for slots that have become free."""
        if not waiters:
            return []
        inflight = self.callers.inflight
        callers = {waiter.demand.caller for waiter in waiters}.union(self.callers.holding())
        slots = slots_of(endpoints)
        share = ceil(slots / len(callers))
        greedy = {name for name in callers if self._is_greedy(name, slots)}

        def place(waiter: Waiter) -> tuple[int, int, float]:
            group, key = self._place(waiter, greedy, now)
            # The further beyond its share somebody is, the later.
            return group, group and max(0, inflight(waiter.demand.caller) + 1 - share), key

        places = {waiter: place(waiter) for waiter in waiters}
        ordered = sorted(places, key=places.__getitem__)
        first = places[ordered[0]]
        oldest = min((waiter for waiter in ordered if places[waiter][:2] == first[:2]), key=came_at)
        if now - came_at(oldest) > self.overdue_s and self._is_its_turn():
            ordered.remove(oldest)
            ordered.insert(0, oldest)
        return ordered

    def _is_its_turn(self) -> bool:
        """Whether the next slot is for who is overdue; most are for the shorter ones, also when many are overdue."""
        self._passed = (self._passed + 1) % (OTHERS_FIRST + 1)
        return not self._passed

    def _place(self, waiter: Waiter, greedy: Collection[str], now: float) -> tuple[int, float]:
        """Return the group (0: would hear silence, 2: asks for far more than others) and the time by which to begin."""
        # A short text goes before longer ones that have not waited much longer.
        patience_s = PATIENCE * min(self.overdue_s, waiter.estimate_s)
        if waiter.demand.due is not None:
            begin_at = waiter.demand.due - waiter.estimate_s
            return (0 if begin_at - now < URGENT_S else 1), begin_at - patience_s
        return 2 if waiter.demand.caller in greedy else 1, came_at(waiter) + patience_s

    def refuse(
        self, waiter: Waiter, waiters: Collection[Waiter], endpoints: Collection[Endpoint], limit: int, now: float
    ) -> Refusal | None:
        """Say why somebody should not even wait: half the queue is theirs already, or it would be too long."""
        if waiter.demand.due is not None:
            return None  # it has begun
        caller = waiter.demand.caller
        mine = sum(other.demand.caller == caller for other in waiters)
        if len(self.callers) > 1 and mine >= max(1, limit // 2):
            return Refusal.QUEUE_FULL
        if self._retired or now + self._wait_s(waiter, waiters, endpoints, now) <= waiter.until:
            return None
        return Refusal.TOO_LATE

    def _wait_s(self, waiter: Waiter, waiters: Iterable[Waiter], endpoints: Collection[Endpoint], now: float) -> float:
        """Return the seconds until a slot is expected: all the work that is before this one, by all slots."""
        slots = slots_of(endpoints)
        names = {other.demand.caller for other in waiters} | {waiter.demand.caller}
        greedy = {name for name in names if self._is_greedy(name, slots)}
        mine = self._place(waiter, greedy, now)
        ahead = sum(other.estimate_s for other in waiters if self._place(other, greedy, now) <= mine)
        running = sum(self._loads[endpoint].remaining_s(now) for endpoint in endpoints)
        if waiter.demand.caller in greedy:
            slots = self.callers.most(waiter.demand.caller, slots, now)
        return (running + ahead) / max(1, slots)

    def leased(self, lease: Lease) -> None:
        """Take note of a lease that has begun."""
        lease.before_s = self._least_s
        demand = lease.demand
        if demand.affinity:
            self._near.pop(demand.affinity, None)
            self._near[demand.affinity] = lease.endpoint
            if len(self._near) > AFFINITIES:
                del self._near[next(iter(self._near))]
        lease.characters = characters = self._characters(demand)
        lease.estimate_s = self.estimates.seconds(characters, lease.endpoint.name, demand.voice)
        self._loads[lease.endpoint].begin(lease)
        self.callers.leased(demand.caller)

    def held(self, lease: Lease) -> None:
        """Take note of a lease that another process has begun."""
        self._loads[lease.endpoint].begin(lease)
        self.callers.leased(lease.demand.caller)

    def retire(self, endpoints: Iterable[Endpoint], now: float) -> Mapping[Endpoint, list[Holding]]:
        """Leave it to a successor who may have slots; return who holds them."""
        self._retired = True
        held = {endpoint: self._loads[endpoint].holdings(now) for endpoint in endpoints}
        known = Counter(one["caller"] for holdings in held.values() for one in holdings)
        # Of those who take longer than expected only their number is known: which endpoint they are at matters little.
        others = (Counter({name: self.callers.inflight(name) for name in self.callers.holding()}) - known).elements()
        for endpoint, holdings in held.items():
            holdings += [Holding(caller=name, left_s=0.0) for name in islice(others, endpoint.inflight - len(holdings))]
        return held

    def is_late(self, lease: Lease, now: float) -> bool:
        """Whether a lease's first audio comes later than that of 95 of 100."""
        return now - lease.since > max(LEAST_LATE_S, self._late * self._first_s(lease))

    def _first_s(self, lease: Lease) -> float:
        """Return the seconds to first audio that are usual for a text."""
        if not self._firsts.weight or lease.characters is None:
            return self.estimate_s(lease.demand)
        return max(self._firsts.seconds(lease.characters), LEAST_S)

    def spoke(self, lease: Lease, now: float) -> None:
        """Take note of a lease's first audio: how long it takes, and how much longer the latest twentieth of it."""
        seconds = now - lease.since
        self._loads[lease.endpoint].spoke(seconds, now)
        if lease.characters is None:
            return
        # Twenty times as fast up as down: at rest, one of twenty is later.
        if seconds > self._late * self._first_s(lease):
            self._late = min(self._late * (1 + 0.95 * LATE_STEP), MOST_LATE)
        else:
            self._late = max(self._late * (1 - 0.05 * LATE_STEP), 1.0)
        self._firsts.observe(lease.characters, seconds)

    def released(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Take note of a lease that has ended, and learn from it."""
        endpoint, demand, load = lease.endpoint, lease.demand, self._loads.get(lease.endpoint)
        self.callers.released(demand.caller)
        if load is None:
            return  # its endpoint has left the pool
        load.end(lease)
        if outcome in FAULTS:
            load.failed(now)
        elif outcome is SUCCEEDED and not lease.held_back:
            load.warm(demand.voice)
            if lease.characters is not None:
                self.estimates.observe(lease.characters, now - lease.since, endpoint.name, demand.voice)

    def forget(self, endpoint: Endpoint) -> None:
        """Forget what was learned of an endpoint that has left; its open leases end as they would."""
        self.estimates.forget(endpoint.name)
        self._loads.pop(endpoint, None)
        self._near = {key: near for key, near in self._near.items() if near is not endpoint}
