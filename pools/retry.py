"""Owns how many requests may be repeated: a fifth of those of about the last ten seconds, and at least three.

Must not know why a request is repeated; failed connects do not ask.
"""

from math import exp

SHARE = 0.2
LEAST = 3
HEDGE_SHARE = 0.05
WINDOW_S = 10.0


class RetryBudget:
    """Counts requests and repeats, both fading with time."""

    __slots__ = ("_faded_at", "_hedges", "_repeats", "requests")

    def __init__(self) -> None:
        self.requests = 0.0
        self._repeats = 0.0
        self._hedges = 0.0
        self._faded_at: float | None = None

    def used(self, now: float) -> float:
        """Return which part of the budget is used; more than 1 where more repeats had to be."""
        self.fade(now)
        return self._repeats / max(LEAST, SHARE * self.requests)

    def take(self, now: float) -> bool:
        """Return whether one more repeat is within the budget, and count it if so."""
        self.fade(now)
        if self._repeats + 1 > max(LEAST, SHARE * self.requests):
            return False
        self._repeats += 1
        return True

    def take_hedge(self, now: float) -> bool:
        """Return whether one more second attempt is within its own budget of a twentieth, and count it if so."""
        self.fade(now)
        if self._hedges + 1 > HEDGE_SHARE * self.requests:
            return False
        self._hedges += 1
        return True

    def spend(self, now: float) -> None:
        """Count a repeat that had to be, so that fewer others may."""
        self.fade(now)
        self._repeats += 1

    def fade(self, now: float) -> None:
        """Forget with a time constant of ten seconds."""
        if self._faded_at is None:
            self._faded_at = now
        elif now > self._faded_at:
            factor = exp((self._faded_at - now) / WINDOW_S)
            self.requests *= factor
            self._repeats *= factor
            self._hedges *= factor
            self._faded_at = now
