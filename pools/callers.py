"""Owns who asks: for how much lately, with how many slots in hand, and who asks for far more than the others do.

Must not know endpoints, nor whose turn it is. Its reasons are told in docs/balancing.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, exp, sqrt

# What somebody has asked for fades by this time constant; who has not asked for so long is forgotten.
FADE_S = 10.0
# Time passes in steps of so much: who has been seen so lately need not be seen again.
STEP_S = 0.5
MOST = 10_000
# Greedy is who asks for more than so many times what each of the others does on average.
GREEDY = 3.0
# Beside what the others need on average, so many times its spread is left free for them.
SPREADS = 2.0
# When sums that grow are scaled down, and how many time constants may pass in one step.
LARGE, LONGEST = 1e9, 20.0


@dataclass(slots=True)
class Caller:
    """When somebody was last seen, and the seconds of work that it has asked for, in the unit of their time."""

    seen_at: float
    asked: float = 0.0


class Callers:
    """Those who have asked in the last seconds, the one seen longest ago first."""

    def __init__(self) -> None:
        # Slots by who holds them; nobody with none is in it.
        self._inflight: dict[str, int] = {}
        self._lately: dict[str, Caller] = {}
        # Nothing is faded: what is new counts for more instead, so that all sums fade together.
        self._unit = 1.0
        self._stepped_at = 0.0
        self._asked = 0.0

    def __len__(self) -> int:
        return len(self._lately)

    def ask(self, name: str, seconds: float, now: float) -> None:
        """Take note of what somebody asks for."""
        if now - self._stepped_at >= STEP_S:
            self._step(now)
        caller = self._lately.get(name)
        if caller is None or now - caller.seen_at >= STEP_S:
            caller = self._see(name, now)
        amount = seconds * self._unit
        caller.asked += amount
        self._asked += amount

    def outdoes(self, name: str) -> bool:
        """Whether somebody has asked for far more than each of the others, if there are others."""
        others = len(self._lately) - 1
        if others < 1 or name not in self._lately:
            return False
        asked = self._lately[name].asked
        return asked * others > GREEDY * (self._asked - asked)

    def exceeds(self, name: str, slots: int) -> bool:
        """Whether somebody who was seen has asked for more than an equal share of the slots can do."""
        return self._slots(self._lately[name].asked) > self._share(slots)

    def most(self, name: str, slots: int, now: float) -> int:
        """Return how many of the slots a greedy one may hold: what the others leave, or an equal share."""
        if now - self._stepped_at >= STEP_S:
            self._step(now)
        if len(self._lately) <= 1:
            return slots
        caller = self._lately.get(name)
        # What the others need on average; how much they need at once is spread as a Poisson variable is.
        needed = self._slots(max(0.0, self._asked - (caller.asked if caller else 0.0)))
        return max(self._share(slots), int(slots - needed - SPREADS * sqrt(needed)))

    def _slots(self, asked: float) -> float:
        """Return how many slots are busy on average with so much work."""
        return asked / self._unit / FADE_S

    def _share(self, slots: int) -> int:
        return ceil(slots / len(self._lately))

    def holding(self) -> Collection[str]:
        """Return who holds slots."""
        return self._inflight.keys()

    def inflight(self, name: str) -> int:
        """Return how many slots somebody holds."""
        return self._inflight.get(name, 0)

    def leased(self, name: str) -> None:
        """Count a slot that somebody holds."""
        self._inflight[name] = self._inflight.get(name, 0) + 1

    def released(self, name: str) -> None:
        """Count it no more."""
        held = self._inflight.pop(name) - 1
        if held:
            self._inflight[name] = held

    def _step(self, now: float) -> None:
        """Let time pass: sums fade, and who has not asked for long is forgotten."""
        lately = self._lately
        while lately and now - lately[oldest := next(iter(lately))].seen_at > FADE_S:
            self._asked -= lately.pop(oldest).asked
        # After longer silence there is nobody left whose sum could matter.
        self._unit *= exp(min((now - self._stepped_at) / FADE_S, LONGEST))
        self._stepped_at = now
        if self._unit > LARGE:
            for caller in lately.values():
                caller.asked /= self._unit
            self._asked /= self._unit
            self._unit = 1.0

    def _see(self, name: str, now: float) -> Caller:
        """Put somebody at the end of those who were seen."""
        lately = self._lately
        caller = lately.pop(name, None) or Caller(now)
        caller.seen_at = now
        lately[name] = caller
        if len(lately) > MOST:
            self._asked -= lately.pop(next(iter(lately))).asked
        return caller
