"""Owns what a balancer deals with (texts, runs, engines), and the rules that simulate.py compares the edge's with.

Each is as its manual or paper tells it. All try a refused connect elsewhere at once; what an endpoint has taken and not
answered is lost with it. Must not know scenarios, nor what is measured.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import exp, inf
from random import Random
from typing import TYPE_CHECKING

from callers_of_speech import ENDPOINTS
from engine import SLOTS

from pools.admission import Lease, Outcome
from pools.demand import Priority
from pools.settings import QueueSettings

if TYPE_CHECKING:
    from world import World

# As many may wait as may at the edge.
MOST = QueueSettings().limit + ENDPOINTS * SLOTS
# How long an engine makes no progress when it stalls.
STALL_S = 10.0
DECAY_S, BELIEVED_S = 10.0, 0.03
PROBES, POOL_OF_PROBES, PROBE_AGE_S, HOT, KEPT = 3, 16, 1.0, 0.84, 128


@dataclass(eq=False, slots=True)
class Text:
    """One request and what became of it; `work_s` comes after an engine's first audio."""

    at: float
    characters: int
    work_s: float
    caller: str
    priority: Priority
    group: str
    reads: bool
    leaves: bool
    heard_at: float = inf
    lost: bool = False
    run: "Run | None" = None
    tried: frozenset[int] = frozenset()


@dataclass(eq=False, slots=True)
class Run:
    """A text at an endpoint, since it was sent there; `begun` once anything was answered."""

    text: Text
    index: int
    since: float
    lease: Lease | None
    begun: bool = False
    over: bool = False


@dataclass(slots=True)
class Engine:
    """One endpoint's engine: what exceeds its slots waits in it."""

    speed: float
    stalls: list[float]
    faults: float
    dead: bool = False
    running: list[Run] = field(default_factory=list)
    waiting: deque[Run] = field(default_factory=deque)

    def after(self, now: float, seconds: float) -> float:
        """Return when so much work is done that begins now."""
        end = now + seconds / self.speed
        for stall in self.stalls:
            if now < stall + STALL_S and stall < end:
                end += stall + STALL_S - max(stall, now)
        return end


class Rival:
    """Sends each text to an endpoint as soon as it comes; those that have no free slot let it wait, in turn."""

    def __init__(self, world: "World", dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.alive = list(range(ENDPOINTS))
        # What each endpoint was given and has not ended, whether it waits or runs.
        self.inflight = [0] * ENDPOINTS

    def arrive(self, text: Text, now: float) -> None:
        """Give a text to an endpoint that has not refused it."""
        able = [index for index in self.alive if index not in text.tried] if text.tried else self.alive
        if not able or sum(self.inflight) >= MOST:
            text.lost = True
            return
        index = self._choose(able, now)
        self.inflight[index] += 1
        self.give(text, index, now)

    def _choose(self, able: Sequence[int], now: float) -> int:
        raise NotImplementedError

    def give(self, text: Text, index: int, now: float) -> None:
        """Send a text."""
        self.world.send(text, index, now)

    def _least(self, able: Iterable[int]) -> int:
        """Return who has the least in flight, ties at random."""
        fewest = min(self.inflight[index] for index in able)
        return self.dice.choice([index for index in able if self.inflight[index] == fewest])

    def spoke(self, run: Run, now: float) -> None:
        """Take note of a first audio."""

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Take note of an end, whatever it was."""
        self.inflight[run.index] -= 1
        if outcome is Outcome.REFUSED:
            run.text.tried |= {run.index}
            self.arrive(run.text, now)
        elif outcome is Outcome.FAILED:
            run.text.lost = True

    def leave(self, text: Text, now: float) -> None:
        """Let go a text that was not sent yet."""

    def gone(self, index: int, now: float) -> None:  # noqa: ARG002 - those with a queue ask for the time
        """Send nothing more to an endpoint: its probes say that it is dead."""
        self.alive.remove(index)

    def back(self, index: int, now: float) -> None:  # noqa: ARG002
        """Use an endpoint again that has returned."""
        self.alive.append(index)

    def tick(self, now: float) -> None:
        """Let time pass."""


class AtRandom(Rival):
    """Any endpoint."""

    def _choose(self, able: Sequence[int], now: float) -> int:  # noqa: ARG002
        return self.dice.choice(able)


class RoundRobin(Rival):
    """One after the other."""

    def __init__(self, world: "World", dice: Random) -> None:
        super().__init__(world, dice)
        self._turns = count()

    def _choose(self, able: Sequence[int], now: float) -> int:  # noqa: ARG002
        return able[next(self._turns) % len(able)]


class TwoChoices(Rival):
    """The one with less in flight, of two at random."""

    def _choose(self, able: Sequence[int], now: float) -> int:  # noqa: ARG002
        return self._least(self.dice.sample(able, min(2, len(able))))


class LeastConnections(Rival):
    """The one with the least in flight."""

    def _choose(self, able: Sequence[int], now: float) -> int:  # noqa: ARG002
        return self._least(able)


class QueueForEach(LeastConnections):
    """The same, but what exceeds an endpoint's slots waits before it, not in it: it outlives the endpoint."""

    def __init__(self, world: "World", dice: Random) -> None:
        super().__init__(world, dice)
        self._queues: list[deque[Text]] = [deque() for _ in range(ENDPOINTS)]

    def give(self, text: Text, index: int, now: float) -> None:
        """Send a text if there is a free slot."""
        if self.inflight[index] <= SLOTS:
            self.world.send(text, index, now)
        else:
            self._queues[index].append(text)

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Hand the slot on."""
        super().ended(run, outcome, now)
        if self._queues[run.index]:
            self.world.send(self._queues[run.index].popleft(), run.index, now)

    def leave(self, text: Text, now: float) -> None:  # noqa: ARG002
        """Take a text out of its queue."""
        index = next(index for index in range(ENDPOINTS) if text in self._queues[index])
        self._queues[index].remove(text)
        self.inflight[index] -= 1

    def gone(self, index: int, now: float) -> None:
        """Spread a dead endpoint's queue."""
        super().gone(index, now)
        waiting, self._queues[index] = self._queues[index], deque()
        self.inflight[index] -= len(waiting)
        for text in waiting:
            self.arrive(text, now)


class Central(Rival):
    """One queue for all, whose first gets the endpoint with the most free slots: HAProxy with `maxconn`."""

    def __init__(self, world: "World", dice: Random) -> None:
        super().__init__(world, dice)
        self._queue: list[tuple[float, int, Text]] = []
        self._tickets = count()

    def _place(self, text: Text) -> float:
        return text.at

    def arrive(self, text: Text, now: float) -> None:
        """Queue a text."""
        if len(self._queue) + sum(self.inflight) >= MOST or text.tried.issuperset(self.alive):
            text.lost = True
            return
        heappush(self._queue, (self._place(text), next(self._tickets), text))
        self._settle(now)

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Hand the slot on."""
        super().ended(run, outcome, now)
        self._settle(now)

    def leave(self, text: Text, now: float) -> None:  # noqa: ARG002
        """Take a text out of the queue."""
        self._queue = [place for place in self._queue if place[2] is not text]
        self._queue.sort()

    def _settle(self, now: float) -> None:
        passed = []
        while self._queue and (free := [index for index in self.alive if self.inflight[index] < SLOTS]):
            place = heappop(self._queue)
            able = [index for index in free if index not in place[2].tried]
            if able:
                index = self._least(able)
                self.inflight[index] += 1
                self.world.send(place[2], index, now)
            else:
                passed.append(place)
        for place in passed:
            heappush(self._queue, place)


class ByLength(Central):
    """The same queue, ordered by the length of the text, however long anybody has waited."""

    def _place(self, text: Text) -> float:
        return text.characters


class PeakEwma(Rival):
    """Of two at random, the one with the lower product of what it has in flight and its fading peak of latency."""

    def __init__(self, world: "World", dice: Random) -> None:
        super().__init__(world, dice)
        self._latency_s = [BELIEVED_S] * ENDPOINTS
        self._seen_at = [0.0] * ENDPOINTS

    def _choose(self, able: Sequence[int], now: float) -> int:
        return min(self.dice.sample(able, min(2, len(able))), key=lambda index: self._cost(index, now))

    def _cost(self, index: int, now: float) -> float:
        return self._latency_s[index] * exp((self._seen_at[index] - now) / DECAY_S) * (self.inflight[index] + 1)

    def spoke(self, run: Run, now: float) -> None:
        """Believe a peak at once, and what is better only with time."""
        seconds, index = now - run.since, run.index
        fading = exp((self._seen_at[index] - now) / DECAY_S)
        known = self._latency_s[index] * fading
        self._latency_s[index] = seconds if seconds > known else known + seconds * (1 - fading)
        self._seen_at[index] = now


@dataclass(slots=True)
class Probe:
    """What an endpoint said of itself: how much it has in flight, and how long it takes with that."""

    at: float
    index: int
    inflight: int
    latency_s: float


@dataclass(slots=True)
class Lately:
    """An endpoint's times to first audio, by how much it had in flight when it was asked."""

    times: dict[int, deque[float]] = field(default_factory=dict)

    def take(self, inflight: int, seconds: float) -> None:
        """Take one."""
        self.times.setdefault(inflight, deque(maxlen=POOL_OF_PROBES)).append(seconds)

    def median(self, inflight: int) -> float:
        """Return the median of those at the nearest level."""
        if not self.times:
            return 0.0
        times = sorted(self.times[min(self.times, key=lambda level: abs(level - inflight))])
        return times[len(times) // 2]


class Prequal(Rival):
    """Prequal: of the endpoints that lately told, the fastest that is not hot, or the one with the least in flight.

    Its probes are answered at once here, which is kinder than any network.
    """

    def __init__(self, world: "World", dice: Random) -> None:
        super().__init__(world, dice)
        self._lately = [Lately() for _ in range(ENDPOINTS)]
        self._probes: list[Probe] = []
        self._seen: deque[int] = deque(maxlen=KEPT)
        self._asked_with: dict[Run, int] = {}
        self._turns = count()

    def _choose(self, able: Sequence[int], now: float) -> int:
        """Choose by the probes at hand, and ask for others."""
        usable = [probe for probe in self._probes if now - probe.at <= PROBE_AGE_S and probe.index in self.alive]
        told = [probe for probe in usable if probe.index in able]
        if len(told) < 2:
            index = self.dice.choice(able)
        else:
            best = self._best(told)
            index = best.index
            usable.remove(best)
            self._forget_one(usable)
        self._probes = usable
        self._ask(able, now)
        for probe in self._probes:
            probe.inflight += probe.index == index
        return index

    def _best(self, probes: Collection[Probe]) -> Probe:
        hot = sorted(self._seen)[int(HOT * len(self._seen))]
        cold = [probe for probe in probes if probe.inflight <= hot]
        if cold:
            return min(cold, key=lambda probe: (probe.latency_s, probe.inflight))
        return min(probes, key=lambda probe: probe.inflight)

    def _forget_one(self, probes: list[Probe]) -> None:
        """Remove the oldest and the worst in turn, so that those that nobody chooses do not stay."""
        if probes:
            worst: Callable[[Probe], float] = lambda probe: probe.inflight  # noqa: E731
            probes.remove(max(probes, key=worst) if next(self._turns) % 2 else probes[0])

    def _ask(self, able: Sequence[int], now: float) -> None:
        for index in self.dice.sample(able, min(PROBES, len(able))):
            inflight = self.inflight[index]
            self._seen.append(inflight)
            self._probes.append(Probe(now, index, inflight, self._lately[index].median(inflight)))
        del self._probes[:-POOL_OF_PROBES]

    def give(self, text: Text, index: int, now: float) -> None:
        """Send a text, and remember how much was in flight."""
        self._asked_with[self.world.send(text, index, now)] = self.inflight[index] - 1

    def spoke(self, run: Run, now: float) -> None:
        """Let the endpoint take note of its own time."""
        self._lately[run.index].take(self._asked_with[run], now - run.since)

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Forget a text that has ended."""
        del self._asked_with[run]
        super().ended(run, outcome, now)


RIVALS: dict[str, type[Rival]] = {
    "random": AtRandom,
    "round robin": RoundRobin,
    "two choices": TwoChoices,
    "least connections": LeastConnections,
    "least connections, a queue for each": QueueForEach,
    "central queue": Central,
    "central queue by length": ByLength,
    "peak EWMA": PeakEwma,
    "Prequal": Prequal,
}
